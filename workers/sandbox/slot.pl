# Starts the sandboxes of a worker's runs, one run at a time and one after the other: a small program forks in a fraction of the time that
# the worker needs. Without a wrapper it is the run's init itself, the parent that every orphan comes to.
#
# perl slot.pl INIT CALLS NICE [NAMESPACES WORD…], with the worker's socket as descriptor 3: init's program, the numbers of the system calls that it makes
# (prepare), how nice this is; in a room the program that makes the namespaces of runs there, what that is
# to know, and its descriptor 4.
# To the worker first: "pipes PID OUT ERR", this process and its descriptors of two pipes for the output of the next script, which the worker opens for reading.
# From the worker: a line "BYTES" and so many bytes of fields, each ended by NUL: the worker's descriptors of control groups, after their
# number; the mark; the words of the wrapper's command, none for a script without namespaces, or in a room what the run sees.
# What follows is for init (init.pl), also where that is PID 1 and has the socket from here.
# To the worker, in lines: "started PID" (0 without a wrapper) or "failed WHY"; init's lines; "gone WHY" once nothing is left, with the
# wrapper's last words; "pipes" for the next run. In a room, between two runs, "stale": this ends, and what it was given meanwhile is not begun.
# When the worker is gone this ends, and with it the run.
#
# Each page that a new process writes is copied for it, and its parent's next write to it is a fault as well: two or three microseconds each, and most of what
# a run costs here. So what can be found out before a process is made is found out by then, and both make system calls where perl's own way is long.
use strict;

my ($init, $calls, $nice, $namespaces, @words) = @ARGV;
my $PR_SET_CHILD_SUBREAPER = 36;
my ($F_SETFL, $O_WRONLY, $O_NONBLOCK, $O_CLOEXEC, $AT_FDCWD) = (4, 1, 04000, 02000000, -100);
my @IGNORED = qw(INT TERM HUP PIPE);

my $owner = getppid;
setpriority 0, 0, $nice;
close_inherited();
# What a terminal sends to everybody is for the worker to hear.
$SIG{$_} = 'IGNORE' for @IGNORED;
# Perl closes what is above $^F when a program is executed.
$^F = 3;
open(my $control, '+<&=', 3) or die "cannot use the worker's socket: $!\n";
# A wrapper is given descriptors 3 to 13: 4 and 5 for the script's output, 6 for init's text, the others for control groups. What is opened from here on
# lies above.
my @places = defined $namespaces ? () : keep_places();
require $init;
Init::be_whole();
Init::prepare($calls);
if (defined $namespaces) {
  require $namespaces;
  Namespaces::prepare(@words);
}
open(my $text, '<', $init) or die "cannot read $init: $!\n";
# For the last words of who starts a run.
pipe(my $complaints, my $complain) or die "cannot make a pipe: $!\n";
fcntl $complaints, $F_SETFL, $O_NONBLOCK;

for (;;) {
  my ($out_read, $out, $err_read, $err) = (make_pipe(), make_pipe());
  say_to_worker("pipes $$ $out_read $err_read");
  be_stale() if defined $namespaces and not Namespaces::wait_for_launch($control);
  my ($count, @fields) = Init::read_launch($control);
  shut($out_read, $err_read);
  my @outputs = ($out, $err, map { open_group($_) } splice @fields, 0, $count);
  my $why = (grep { $_ < 0 } @outputs) ? "cannot open a control group: $!" : undef;
  my ($mark, @given) = splice @fields, 0, -1;
  my $is_wrapped = !defined $namespaces && @given;
  # Init reads it where that is a program of its own.
  Init::take_launch($control, \@outputs, Init::read_launch($control)) unless $is_wrapped;
  $why //= $is_wrapped ? run_wrapped($mark, \@given, @outputs) : defined $namespaces ? run_in_namespaces($mark, \@given, @outputs) : run_here();
  next unless defined $why;
  Init::read_launch($control) if $is_wrapped;
  shut(@outputs);
  say_to_worker("failed $why");
}

# Whatever the worker was given by whoever started it.
sub close_inherited {
  opendir my $fds, '/proc/self/fd' or return;
  for my $fd (grep { /^\d+$/ and $_ > (defined $namespaces ? 4 : 3) and $_ != fileno $fds } readdir $fds) {
    if (open(my $inherited, '<&=', $fd)) { close $inherited }
  }
}

sub keep_places {
  my @kept;
  while (1) {
    open(my $null, '<', '/dev/null') or die "cannot open /dev/null: $!\n";
    return @kept if fileno $null > 13;
    push @kept, $null;
  }
}

# Numbers and no files of perl's: what to read from, and what to write to.
sub make_pipe {
  my $both = pack 'i2', 0, 0;
  syscall($Init::pipe2, $both, $O_CLOEXEC) == 0 or die "cannot make a pipe: $!\n";
  return unpack 'i2', $both;
}

sub shut { syscall $Init::close, $_ for @_ }

sub open_group {
  my ($fd) = @_;
  return syscall $Init::openat, $AT_FDCWD, my $path = "/proc/$owner/fd/$fd", $O_WRONLY | $O_CLOEXEC, 0;
}

# These three: why nothing was started, or nothing.
sub run_wrapped {
  my ($mark, $wrapper, @outputs) = @_;
  return run_apart(\@outputs, sub { fork }, sub { become_wrapper($mark, $wrapper, @outputs[0, 1], fileno $text, @outputs[2 .. $#outputs]) });
}

sub run_in_namespaces {
  my ($mark, $view, @outputs) = @_;
  Namespaces::plan(@$view);
  return run_apart(\@outputs, \&Namespaces::fork_apart, sub {
    Namespaces::enter($mark);
    Init::be_first();
    Namespaces::leave();
  });
}

sub run_here {
  become_parent_of_orphans();
  say_to_worker('started 0');
  Init::tend();
  say_to_worker('gone');
  return undef;
}

# PID 1 of the run, or what starts it, is a process of its own in a group of its own.
sub run_apart {
  my ($outputs, $fork, $become) = @_;
  # Words too late for the run before.
  sysread $complaints, my $late, 65536;
  my $pid = $fork->() // return "cannot make the process of a run: $!";
  if ($pid == 0) {
    $SIG{$_} = 'DEFAULT' for @IGNORED;
    syscall $Init::dup3, fileno $complain, 2, 0;
    $become->();
  }
  say_to_worker("started $pid");
  shut(@$outputs);
  1 while waitpid($pid, 0) == -1 and $! == 4;
  sysread $complaints, my $said, 65536;
  my ($last) = ($said // '') =~ /([^\n]*)\n*\z/;
  say_to_worker("gone $last");
  return undef;
}

sub become_wrapper {
  my ($mark, $wrapper, @given) = @_;
  setpgrp 0, 0;
  syscall $Init::dup3, $given[$_], 4 + $_, 0 for 0 .. $#given;
  my ($name, $value) = split /=/, $mark, 2;
  %ENV = ($name => $value);
  exec { $wrapper->[0] } @$wrapper;
  syswrite STDERR, "$wrapper->[0] cannot be executed: $!\n";
  kill 'KILL', $$;
}

# The worker closes the socket once it has read that; it would not read on where it had found it closed.
sub be_stale {
  say_to_worker('stale');
  my $got;
  do { $got = sysread $control, my $lost, 65536 } while $got or !defined $got and $! == 4;
  exit 0;
}

# prctl(2): whoever loses its parent in a run becomes a child of this process.
sub become_parent_of_orphans {
  our $is_parent;
  return if $is_parent;
  syscall($Init::prctl, $PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 or die "cannot become the parent of a run's orphans: $!\n";
  $is_parent = 1;
}

sub say_to_worker {
  my $line = "$_[0]\n";
  while (length $line) {
    my $written = syswrite $control, $line;
    exit 0 unless $written or $! == 4;
    substr($line, 0, $written // 0) = '';
  }
}
