# Starts the sandboxes of a worker's runs, one run at a time and one after the other: a small program forks in a fraction of the time that
# the worker needs. Without a wrapper it is the run's init itself, the parent that every orphan comes to.
#
# perl slot.pl INIT PRCTL [NAMESPACES WORD…], with the worker's socket as descriptor 3 and the number of the system call prctl(2) on this
# machine; in a room with the program that makes the namespaces of runs there, what that is to know, and its descriptor 4.
# To the worker first: "pipes PID OUT ERR", this process and its descriptors of two pipes for the output of the next script, which the worker opens for reading.
# From the worker: a line "BYTES" and so many bytes of fields, each ended by NUL: the worker's descriptors of control groups, after their
# number; the mark; the words of the wrapper's command, none for a script without namespaces, or in a room what the run sees.
# What follows is for init (init.pl), also where that is PID 1 and has the socket from here.
# To the worker, in lines: "started PID" (0 without a wrapper) or "failed WHY"; init's lines; "gone WHY" once nothing is left, with the
# wrapper's last words; "pipes" for the next run. In a room, between two runs, "stale": this ends, and what it was given meanwhile is not begun.
# When the worker is gone this ends, and with it the run.
use strict;

my ($init, $prctl, $namespaces, @words) = @ARGV;
my $PR_SET_CHILD_SUBREAPER = 36;
my ($F_SETFL, $O_NONBLOCK) = (4, 2048);
my @IGNORED = qw(INT TERM HUP PIPE);

my $owner = getppid;
close_inherited();
# What a terminal sends to everybody is for the worker to hear.
$SIG{$_} = 'IGNORE' for @IGNORED;
# A wrapper is given descriptors 3 to 13: 4 and 5 for the script's output, 6 for init's text, the others for control groups. They are
# kept free for that by what stands in their places meanwhile. Perl closes what is above $^F when a program is executed.
$^F = 13;
open(my $control, '+<&=', 3) or die "cannot use the worker's socket: $!\n";
my %room;
take_room();
require $init;
Init::be_whole();
if (defined $namespaces) {
  require $namespaces;
  Namespaces::prepare($prctl, @words);
}
else { Init::prepare() }
close delete $room{6};
open(my $text, '<', $init) or die "cannot read $init: $!\n";

for (;;) {
  # All of them lie above the room, and are closed in the script.
  pipe(my $out_read, my $out) and pipe(my $err_read, my $err) or die "cannot make a pipe: $!\n";
  say_to_worker(join ' ', 'pipes', $$, fileno $out_read, fileno $err_read);
  be_stale() if defined $namespaces and not Namespaces::wait_for_launch($control);
  my ($count, @fields) = Init::read_launch($control);
  close $_ for $out_read, $err_read;
  my $is_wrapped = !defined $namespaces && @fields > $count + 2;
  %room = () if $count or $is_wrapped;
  my @outputs = $is_wrapped ? map { open_same($_) // () } $out, $err : ($out, $err);
  push @outputs, map { open_group($_) // () } splice @fields, 0, $count;
  my ($mark, @wrapper) = splice @fields, 0, -1;
  if (@outputs < $count + 2) { fail("cannot open what the script is to be given: $!") }
  elsif (defined $namespaces) {
    run_apart(\@outputs, sub { Namespaces::fork_apart($wrapper[0]) }, sub {
      Namespaces::enter($mark, @wrapper);
      Init::be_first($control, @outputs);
      Namespaces::leave();
    });
  }
  elsif (@wrapper) {
    close $_ for $out, $err;
    run_apart(\@outputs, sub { fork }, sub { become_wrapper($mark, @wrapper) });
  }
  else {
    become_parent_of_orphans();
    say_to_worker('started 0');
    my @launch = Init::read_launch($control);
    Init::tend($control, splice(@outputs, 0, 2), \@outputs, @launch);
    say_to_worker('gone');
  }
  @outputs = ();
  take_room();
}

# Whatever the worker was given by whoever started it.
sub close_inherited {
  opendir my $fds, '/proc/self/fd' or return;
  for my $fd (grep { /^\d+$/ and $_ > (defined $namespaces ? 4 : 3) and $_ != fileno $fds } readdir $fds) {
    if (open(my $inherited, '<&=', $fd)) { close $inherited }
  }
}

# Descriptors 4 to 13 but for those that are in use.
sub take_room {
  while (1) {
    open(my $null, '<', '/dev/null') or die "cannot open /dev/null: $!\n";
    last if fileno $null > 13;
    $room{ fileno $null } = $null;
  }
}

sub open_same {
  open(my $same, '>&', $_[0]) or return undef;
  return $same;
}

sub open_group {
  my ($fd) = @_;
  sysopen(my $group, "/proc/$owner/fd/$fd", 1) or return undef;
  return $group;
}

# PID 1 of the run, or what starts it, is a process of its own in a group of its own.
sub run_apart {
  my ($outputs, $fork, $become) = @_;
  local $^F = 2;
  pipe(my $complaints, my $complain) or return fail("cannot make a pipe: $!");
  my $pid = $fork->() // return fail("cannot make the process of a run: $!");
  if ($pid == 0) {
    $SIG{$_} = 'DEFAULT' for @IGNORED, 'CHLD';
    open(STDERR, '>&', $complain);
    $become->();
  }
  say_to_worker("started $pid");
  close $complain;
  close $_ for splice @$outputs;
  1 while waitpid($pid, 0) == -1 and $! == 4;
  fcntl $complaints, $F_SETFL, $O_NONBLOCK;
  sysread $complaints, my $said, 65536;
  my ($last) = ($said // '') =~ /([^\n]*)\n*\z/;
  say_to_worker("gone $last");
}

sub become_wrapper {
  my ($mark, @wrapper) = @_;
  setpgrp 0, 0;
  my ($name, $value) = split /=/, $mark, 2;
  %ENV = ($name => $value);
  exec { $wrapper[0] } @wrapper;
  syswrite STDERR, "$wrapper[0] cannot be executed: $!\n";
  kill 'KILL', $$;
}

# The worker closes the socket once it has read that; it would not read on where it had found it closed.
sub be_stale {
  say_to_worker('stale');
  1 while sysread $control, my $lost, 65536 ;
  exit 0;
}

# Init's part of the launch is of no use then.
sub fail {
  my ($why) = @_;
  Init::read_launch($control);
  say_to_worker("failed $why");
}

# prctl(2): whoever loses its parent in a run becomes a child of this process.
sub become_parent_of_orphans {
  return unless $prctl;
  syscall($prctl + 0, $PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 or die "cannot become the parent of a run's orphans: $!\n";
  $prctl = undef;
}

sub say_to_worker {
  my $line = "$_[0]\n";
  while (length $line) {
    my $written = syswrite $control, $line;
    exit 0 unless $written or $! == 4;
    substr($line, 0, $written // 0) = '';
  }
}
