# PID 1 of a run's PID namespace: starts the script, tells how it ended, and leaves nothing of it alive.
#
# Only what perl-base has, and no module but strict: loading POSIX alone would double the time that a run takes to start.
#
# File descriptors: 2 for its own complaints, 3 the worker, 4 and 5 the script's stdout and stderr, 6 this program, from 7 on the
# cgroup.procs files of the control groups that the script is to be in.
# From the worker: a line "BYTES", then so many bytes of fields, each ended by NUL: as named below, then the arguments, then the
# environment as NAME=VALUE. After that single letters: t (terminate: SIGTERM to all) and k (kill what is left). When the worker
# is gone, everything ends.
# To the worker, in lines: "ended STATUS" (raw, as wait gives it), "killed PID COMMAND" for each, "done HELD" at last;
# the worker answers that by closing.
use strict;

if (open(my $program, '<&=', 6)) { close $program }
open(my $control, '+<&=', 3) or exit 1;
open(my $out, '>&=', 4) or exit 1;
open(my $err, '>&=', 5) or exit 1;
my %output = map { (readlink("/proc/self/fd/$_") // '?') => 1 } 4, 5;

my ($loopback, $groups, $nice, $killed_max, $command_bytes_max, $poll_ms, $poll_ms_max, $folder, $argc, @environment) = read_launch();
my @argv = splice @environment, 0, $argc;
raise_loopback() if $loopback;
my @groups = map { open(my $group, '>&=', $_) or exit 1; $group } 7 .. 6 + $groups;

# Perl runs handlers between its own steps, so a signal that comes just before select would be slept over: hence a pipe, and
# for the last instant the bound of the wait.
pipe(my $woken, my $wake) or die "cannot make a pipe: $!\n";
$SIG{CHLD} = sub { syswrite $wake, '.' };

my ($status, $terminated, $killing, $held) = (undef, 0, 0, 0);
my $leader = fork // die "cannot fork: $!\n";
start_script() if $leader == 0;
close $_ for $out, $err, @groups;

until (defined $status or $killing) {
  wait_for(0.25);
  reap();
}
settle() unless $killing;
kill_all();
say_line('done ' . ($held ? 1 : 0));
# Ending with a letter unread would reset the connection, and the last lines with it: the worker closes first.
for (;;) {
  my $got = sysread $control, my $letters, 64;
  last unless $got or !defined $got and $! == 4;
}
exit 0;

sub read_launch {
  my $text = '';
  until ($text =~ /\n/) { sysread($control, $text, 1, length $text) or exit 1 }
  my $bytes = int $text;
  $text = '';
  while (length $text < $bytes) { sysread($control, $text, $bytes - length $text, length $text) or exit 1 }
  return split /\0/, $text, -1;
}

sub start_script {
  $SIG{CHLD} = 'DEFAULT';
  setpgrp 0, 0;
  chdir $folder or fail_script("cannot enter $folder: $!", 126);
  pop @environment;    # what follows the last NUL
  %ENV = ();
  for my $entry (@environment) {
    my ($name, $value) = split /=/, $entry, 2;
    $ENV{$name} = $value;
  }
  open(STDOUT, '>&', $out) and open(STDERR, '>&', $err) or exit 126;
  stand_back();
  for my $group (@groups) { syswrite $group, '0' or fail_script("cannot enter the run's control group: $!", 126) }
  close_all_but_standard();
  exec { $argv[0] } @argv;
  my ($code, $why) = ($! + 0, "$!");
  fail_script("$argv[0] cannot be executed: $why", $code == 2 ? 127 : 126);
}

# The worker comes first: for the processor, and where memory runs out the script is the first to die.
sub stand_back {
  setpriority 0, 0, getpriority(0, 0) + $nice;
  open my $score, '>', '/proc/self/oom_score_adj' or return;
  syswrite $score, '1000';
}

# Also what the worker itself has inherited from whoever started it.
sub close_all_but_standard {
  opendir my $fds, '/proc/self/fd' or return;
  for my $fd (grep { /^\d+$/ and $_ > 2 and $_ != fileno $fds } readdir $fds) {
    if (open(my $inherited, '<&=', $fd)) { close $inherited }
  }
}

sub fail_script {
  my ($why, $code) = @_;
  syswrite STDERR, "builder: $why\n";
  exit $code;
}

# Waits for a child's end, a letter of the worker's or the time, whichever comes first.
sub wait_for {
  my ($seconds) = @_;
  my $ready = '';
  vec($ready, fileno $control, 1) = 1;
  vec($ready, fileno $woken, 1) = 1;
  return if select($ready, undef, undef, $seconds) <= 0;
  sysread $woken, my $drained, 4096 if vec($ready, fileno $woken, 1);
  return unless vec($ready, fileno $control, 1);
  my $got = sysread $control, my $letters, 64;
  return if !defined $got and $! == 4;
  return $killing = 1 if !$got or $letters =~ /k/;
  terminate() if $letters =~ /t/;
}

sub terminate {
  $terminated = 1;
  kill 'TERM', -1;
  kill 'CONT', map { $_->{pid} } grep { $_->{state} eq 'T' } left();
}

sub reap {
  while ((my $pid = waitpid -1, 1) > 0) { note_end($pid) }
}

sub note_end {
  my ($pid) = @_;
  return if $pid != $leader or defined $status;
  $status = $?;
  say_line("ended $status");
}

# The leader has ended. Those who hold its output are waited for, after a SIGTERM everybody is; the worker says for how long.
sub settle {
  my $poll = $poll_ms;
  for (;;) {
    my @left = left();
    $held = grep { holds_output($_->{pid}) } @left;
    return unless @left and ($held or $terminated);
    return if $killing;
    wait_for($poll / 1000);
    reap();
    $poll = $poll * 1.5 < $poll_ms_max ? $poll * 1.5 : $poll_ms_max;
  }
}

# Everybody but PID 1 is stopped in one step, so none can fork while they are named, then killed in one step.
sub kill_all {
  kill 'STOP', -1;
  my $count = 0;
  for my $one (left()) {
    next if !defined $status and $one->{pid} == $leader;
    last if $count++ == $killed_max;
    say_line("killed $one->{pid} " . command_of($one->{pid}));
  }
  kill 'KILL', -1;
  while ((my $pid = waitpid -1, 0) > 0) { note_end($pid) }
}

# The living in this namespace; zombies are dead.
sub left {
  opendir my $proc, '/proc' or return;
  my @left;
  for my $pid (grep { /^\d+$/ and $_ != 1 } readdir $proc) {
    my $stat = slurp("/proc/$pid/stat") // next;
    my ($state) = substr($stat, rindex($stat, ')')) =~ /^\) (\S)/ or next;
    push @left, { pid => $pid, state => $state } unless $state =~ /[ZX]/;
  }
  return @left;
}

sub holds_output {
  my ($pid) = @_;
  opendir my $fds, "/proc/$pid/fd" or return 0;
  return scalar grep { $output{ readlink("/proc/$pid/fd/$_") // '' } } readdir $fds;
}

sub command_of {
  my ($pid) = @_;
  my $command = slurp("/proc/$pid/cmdline") // '';
  if ($command eq '') { $command = '[' . (slurp("/proc/$pid/comm") // '?') . ']' }
  $command =~ s/[\s\0]+/ /g;
  $command =~ s/^ | (?=\]?$)//g;
  return substr $command, 0, $command_bytes_max;
}

sub slurp {
  my ($path) = @_;
  open my $file, '<', $path or return undef;
  sysread $file, my $text, 65536;
  return $text;
}

sub say_line {
  my $line = "$_[0]\n";
  while (length $line) {
    my $written = syswrite $control, $line;
    return unless $written or $! == 4;
    $line = substr $line, $written // 0;
  }
}

# A network namespace begins with its loopback interface down: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING.
sub raise_loopback {
  socket(my $socket, 2, 2, 0) or return;
  my $request = pack('a16 s x22', 'lo', 0x41);
  ioctl $socket, 0x8914, $request;
}
