# Starts the sandboxes of a worker's runs, one process for all of them: a small program forks in a fraction of the time that a large one
# needs, and the worker goes on meanwhile. It holds one socket with the worker, and one with each run's init, and carries their lines.
#
# perl launcher.pl INIT, with the worker's socket as descriptor 3.
# From the worker: "RUN launch BYTES" and so many bytes of fields, each ended by NUL, as launch() takes them; "RUN t" and "RUN k" go to
# the run's init as t and k; "RUN K" kills the group that the sandbox began as, should init not answer.
# To the worker, in lines: "RUN started" or "RUN failed WHY"; init's lines after "RUN "; "RUN gone WHY" at last, with the sandbox's last
# words. When the worker is gone this ends, and with it every run.
use strict;
use IO::File ();
use POSIX ();

my %PRCTL = (x86_64 => 157, aarch64 => 167, riscv64 => 167, ppc64le => 171, s390x => 172, i686 => 172, armv7l => 172);
my $PR_SET_CHILD_SUBREAPER = 36;
my @IGNORED = qw(INT TERM HUP PIPE);

my ($init) = @ARGV;
my $owner = getppid;

# A wrapper is given descriptors from 3 on: what this program opens for itself lies above them all.
my $null = POSIX::open('/dev/null', 0);
while ($null < 14) { $null = POSIX::dup($null) }
open(my $worker, '+<&', 3) or die "cannot use the worker's socket: $!\n";
POSIX::dup2($null, 3);
open(my $program, '<', $init) or die "cannot read $init: $!\n";
require $init;

pipe(my $woken, my $wake) or die "cannot make a pipe: $!\n";
# What a terminal sends to everybody is for the worker to hear.
$SIG{$_} = 'IGNORE' for @IGNORED;
$SIG{CHLD} = \&wake_up;

my ($input, $answer) = ('', '');
my (%runs, %of_pid);

for (;;) {
  my ($reads, $writes) = ('', '');
  vec($reads, fileno $_, 1) = 1 for $worker, $woken, map { $_->{control} // () } values %runs;
  for my $run (values %runs) { vec($writes, fileno $run->{control}, 1) = 1 if $run->{control} and length $run->{unsent} }
  next if select($reads, $writes, undef, undef) < 0;
  sysread $woken, my $drained, 4096 if vec($reads, fileno $woken, 1);
  for my $run (values %runs) {
    my $fd = fileno($run->{control} // next);
    send_rest($run) if vec($writes, $fd, 1);
    carry($run) if vec($reads, $fd, 1);
  }
  reap();
  hear() if vec($reads, fileno $worker, 1);
  syswrite_all($worker, $answer) if length $answer;
  $answer = '';
}

sub wake_up { syswrite $wake, '.' }

# What the worker has sent so far: whole requests are done, the rest waits for its other part.
sub hear {
  my $got = sysread $worker, $input, 1 << 20, length $input;
  return if !defined $got and $! == 4;
  POSIX::_exit(0) unless $got;
  while ($input =~ /^(\d+) (\w+)(?: (\d+))?\n/) {
    my ($id, $word, $bytes, $head) = ($1, $2, $3 // 0, $+[0]);
    last if length($input) < $head + $bytes;
    my $body = substr $input, $head, $bytes;
    substr($input, 0, $head + $bytes) = '';
    if ($word eq 'launch') { launch($id, split /\0/, $body, -1) }
    elsif (my $run = $runs{$id}) { tell_run($run, $word) }
  }
}

sub tell_run {
  my ($run, $letter) = @_;
  if ($letter eq 'K') { kill 'KILL', -$run->{pid} }
  elsif ($run->{control}) {
    $run->{unsent} .= $letter;
    send_rest($run);
  }
}

# Fields: how many words the wrapper's command has and these words, none for a script without a namespace; the mark for its environment;
# the worker's descriptors of the script's stdout, its stderr and its control groups, each after their number; then init's.
sub launch {
  my ($id, $count, @fields) = @_;
  my @wrapper = splice @fields, 0, $count;
  my $mark = shift @fields;
  my @fds = splice @fields, 0, shift @fields;
  my @outputs;
  for my $fd (@fds) {
    sysopen(my $output, "/proc/$owner/fd/$fd", 1) or return failed($id, "cannot open an output of the script: $!");
    push @outputs, $output;
  }
  socketpair(my $mine, my $theirs, 1, 1, 0) or return failed($id, "cannot make a socket: $!");
  pipe(my $complaints, my $complain) or return failed($id, "cannot make a pipe: $!");
  my $pid = fork // return failed($id, "cannot fork: $!");
  if ($pid == 0) {
    POSIX::setsid();
    POSIX::dup2(fileno $complain, 2);
    exec_wrapper($mark, $theirs, \@outputs, @wrapper) if @wrapper;
    close $_ for $worker, $woken, $wake, $program, $mine, $complaints, $complain, map { ($_->{control} // (), $_->{complaints}) } values %runs;
    become_parent_of_orphans();
    Init::tend($theirs, splice(@outputs, 0, 2), \@outputs, @fields);
  }
  $mine->blocking(0);
  my $unsent = '';
  if (@wrapper) {
    my $payload = join "\0", @fields;
    $unsent = length($payload) . "\n$payload";
  }
  my $run = { id => $id, pid => $pid, control => $mine, complaints => $complaints, unsent => $unsent, heard => '' };
  $runs{$id} = $of_pid{$pid} = $run;
  send_rest($run);
  $answer .= "$id started\n";
}

sub exec_wrapper {
  my ($mark, $control, $outputs, @wrapper) = @_;
  my ($name, $value) = split /=/, $mark, 2;
  %ENV = ($name => $value);
  my $fd = 7;
  POSIX::dup2(fileno $control, 3);
  POSIX::dup2(fileno shift @$outputs, $_) for 4, 5;
  POSIX::dup2(fileno $program, 6);
  POSIX::dup2(fileno $_, $fd++) for @$outputs;
  $SIG{$_} = 'DEFAULT' for @IGNORED, 'CHLD';
  exec { $wrapper[0] } @wrapper;
  syswrite STDERR, "$wrapper[0] cannot be executed: $!\n";
  POSIX::_exit(126);
}

# prctl(2): whoever loses its parent in this run becomes a child of this process.
sub become_parent_of_orphans {
  my $number = $PRCTL{ (POSIX::uname())[4] };
  return if $number and syscall($number, $PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
  syswrite STDERR, "cannot become the parent of a run's orphans on this machine\n";
  POSIX::_exit(1);
}

sub failed {
  my ($id, $why) = @_;
  $answer .= "$id failed $why\n";
}

sub send_rest {
  my ($run) = @_;
  return unless length $run->{unsent};
  my $written = syswrite $run->{control}, $run->{unsent};
  substr($run->{unsent}, 0, $written) = '' if $written;
}

# Init waits for the close of its socket once it has said all.
sub carry {
  my ($run) = @_;
  my $got = sysread $run->{control}, my $text, 65536;
  return if !defined $got and ($! == 4 or $! == 11);
  $run->{heard} .= $text if $got;
  while ($run->{heard} =~ s/^(.*)\n//) {
    my $line = $1;
    $answer .= "$run->{id} $line\n";
    $got = 0 if $line =~ /^(?:done|stuck) /;
  }
  return if $got;
  close $run->{control};
  $run->{control} = undef;
  over($run) if $run->{reaped};
}

sub reap {
  while ((my $pid = waitpid -1, 1) > 0) {
    my $run = delete $of_pid{$pid} // next;
    $run->{reaped} = 1;
    if ($run->{control}) { carry($run) }
    else { over($run) }
  }
}

sub over {
  my ($run) = @_;
  $run->{complaints}->blocking(0);
  sysread $run->{complaints}, my $said, 65536;
  my ($last) = ($said // '') =~ /([^\n]*)\n*\z/;
  $answer .= "$run->{id} gone $last\n";
  delete $runs{ $run->{id} };
}

sub syswrite_all {
  my ($to, $text) = @_;
  while (length $text) {
    my $written = syswrite $to, $text;
    POSIX::_exit(0) unless $written or $! == 4;
    substr($text, 0, $written // 0) = '';
  }
}
