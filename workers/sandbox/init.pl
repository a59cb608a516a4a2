# Starts the script of one run, tells how it ended, and leaves nothing of it alive. As PID 1 of the run's PID namespace it is a program
# of its own; without one it is a part of slot.pl, to which every orphan of the run comes.
#
# Where it is a program of its own every run compiles it anew, and each line costs it: so it has no module, not even strict (a test compiles it with that),
# and what most runs do not need stands behind the end of the program and is compiled at its first use; by a slot at once.
#
# File descriptors as PID 1: 2 for its own complaints, 3 the worker, 4 and 5 the script's stdout and stderr, 6 this program, from 7 on
# the cgroup.procs files of the control groups that the script is to be in.
# From the worker: a line "BYTES", then so many bytes of fields, each ended by NUL: as named in take_launch(), then the arguments, then the
# environment as NAME=VALUE. After that single letters: t (terminate: SIGTERM to all) and k (kill what is left). When the worker is gone,
# everything ends.
# To the worker, in lines: "begun" once the script is about to, "ended STATUS" (raw, as wait gives it), "killed PID COMMAND" for each, "done HELD" at last, or "stuck COUNT"
# where some cannot be killed in time.
package Init;

our ($control, $out, $err, @groups, %output);
# Numbers of system calls on this machine; of fork with what it is given.
our ($prctl, $dup3, $execve, $openat, $write, $close, $pipe2, @fork);
our ($nice, $killed_max, $command_bytes_max, $poll_ms, $poll_ms_max, $kill_ms_max, $folder, $loopback);
# $program and what follows it as execve(2) takes them.
our (@argv, @environment, $program, $argv, $environment);
# $said are the lines of this, told before the next wait: the end of a script of which nothing is left is one message.
our ($leader, $status, $terminated, $killing, $held, $said);
# Whether this is PID 1, so that everybody else of the namespace is of the run.
our $alone = 0;
# A child may have ended.
our $due;
# As system calls take them: perl would copy a text that others have too.
our ($score, $score_value) = map { pack 'Z*', $_ } '/proc/self/oom_score_adj', '1000';
# What is compiled at its first use. The program's file is closed with it: from PID 1 a script could reach the host's own.
our $rest = do { local $/; <DATA> };
close DATA;

if (!caller) {
  $alone = 1;
  open($control, '+<&=', 3) or exit 1;
  # What it leaves unread the slot reads, which has the socket too.
  my @fields = read_launch($control);
  prepare($fields[2]);
  syscall $close, 6;
  take_launch($control, [4, 5, 7 .. 6 + $fields[1]], @fields);
  raise_loopback() if $loopback;
  tend();
  exit 0;
}

1;

# Perl runs handlers between its own steps, so a signal that comes just before select is slept over: hence what tells of the leader's end
# without a signal, or a bound of the wait.
sub prepare {
  ($prctl, $dup3, $execve, $openat, $write, $close, $pipe2, @fork) = map { $_ + 0 } split ' ', $_[0];
  $SIG{CHLD} = sub { $due = 1 };
  # Perl ignores it, but for what it executes itself.
  $SIG{FPE} = 'DEFAULT';
}

# In the slot where PID 1 is a part of that: before it is made.
sub take_launch {
  my ($outputs, $argc);
  ($control, $outputs, $loopback, undef, undef, @environment) = @_;
  ($nice, $killed_max, $command_bytes_max, $poll_ms, $poll_ms_max, $kill_ms_max, $folder, $argc) = splice @environment, 0, 8;
  ($out, $err, @groups) = @$outputs;
  @argv = splice @environment, 0, $argc;
  pop @environment;    # what follows the last NUL
  $program = pack 'Z*', $argv[0];
  ($argv, $environment) = map { pack 'p*', @$_, undef } \@argv, \@environment;
  %output = map { (readlink("/proc/self/fd/$_") // '?') => 1 } $out, $err;
  ($status, $terminated, $killing, $held, $said, $due) = (undef, 0, 0, 0, '', 0);
}

sub tend {
  # Nobody in the namespace may look into PID 1 or take its socket; the child is like any other.
  set_dumpable(0) if $alone;
  # Perl's own flushes each file that is open.
  $leader = syscall $fork[0], @fork[1 .. $#fork];
  $leader >= 0 or die "cannot fork: $!\n";
  if ($leader == 0) {
    set_dumpable(1) if $alone;
    start_script();
  }
  $said = "begun\n";
  syscall $close, $_ for $out, $err, @groups;

  # pidfd_open(2), which has one number on all machines; Linux before 5.3 has none.
  my $pidfd = syscall 434, $leader, 0;
  my $left = 1;
  until (defined $status or $killing) {
    # What was slept over of an orphan is a zombie for so long.
    my $over = wait_for($pidfd >= 0 ? 5 : 0.25, $pidfd);
    $left = reap();
    # A tracer of the leader has its end first, and until that lets go of it this would be told again and again.
    if ($over) {
      syscall $close, $pidfd;
      $pidfd = -1;
    }
  }
  syscall $close, $pidfd if $pidfd >= 0;
  # Without a child there is no descendant: all orphans come here.
  if ($left) {
    settle() unless $killing;
    kill_all() if reap();
  }
  $said .= 'done ' . ($held ? 1 : 0) . "\n";
  speak();
}

# prctl(2), PR_SET_DUMPABLE.
sub set_dumpable {
  syscall($prctl, 4, $_[0] + 0, 0, 0, 0) == 0 or die "cannot keep init to itself: $!\n";
}

sub read_launch {
  my ($from) = @_;
  my $text = '';
  until ($text =~ /\n/) { read_on($from, $text, 1) }
  # Letters may have come too late for the run before.
  my ($bytes) = $text =~ /(\d+)\n/;
  $text = '';
  while (length $text < $bytes) { read_on($from, $text, $bytes - length $text) }
  return split /\0/, $text, -1;
}

# Appends to its second argument; a signal may come first.
sub read_on {
  my $got = sysread $_[0], $_[1], $_[2], length $_[1];
  exit 1 unless $got or !defined $got and $! == 4;
}

sub start_script {
  # PID 1 ignores nothing, and a handler does not outlive the exec.
  unless ($alone) { $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE) }
  setpgrp 0, 0;
  chdir $folder or fail_script("cannot enter $folder: $!", 126);
  syscall($dup3, $out, 1, 0) > 0 and syscall($dup3, $err, 2, 0) > 0 or exit 126;
  # The worker comes first: for the processor, and where memory runs out the script is the first to die.
  setpriority 0, 0, $nice;
  my $file = syscall $openat, -100, $score, 1, 0;
  syscall $write, $file, $score_value, 4 if $file >= 0;
  for (@groups) { syscall($write, $_, my $self = '0', 1) == 1 or fail_script("cannot enter the run's control group: $!", 126) }
  # close_range(2), which has one number on all machines; Linux before 5.9 has none.
  syscall(436, 3, 0x7fffffff, 0) == 0 or close_all_but_standard();
  syscall $execve, $program, $argv, $environment;
  fail_exec();
}

# Waits for a child's end, a letter of the worker's, what else is given or the time, whichever comes first. Whether it is what was given.
sub wait_for {
  my ($seconds, $end) = @_;
  speak();
  my $ready = '';
  vec($ready, fileno $control, 1) = 1;
  vec($ready, $end, 1) = 1 if $end >= 0;
  my $found = select $ready, undef, undef, $due ? 0 : $seconds;
  $due = 0;
  return 0 if $found <= 0;
  hear() if vec($ready, fileno $control, 1);
  return $end >= 0 && vec($ready, $end, 1);
}

# Whether there are children that live.
sub reap {
  for (;;) {
    my $pid = waitpid -1, 1;
    return $pid == 0 if $pid <= 0;
    note_end($pid);
  }
}

sub note_end {
  my ($pid) = @_;
  return if $pid != $leader or defined $status;
  $status = $?;
  $said .= "ended $status\n";
}

sub speak {
  while (length $said) {
    my $written = syswrite $control, $said;
    return unless $written or $! == 4;
    $said = substr $said, $written // 0;
  }
}

# The first call of what is not compiled yet.
sub AUTOLOAD {
  our $AUTOLOAD;
  defined $rest or die "no such part of init: $AUTOLOAD\n";
  eval "$rest; 1" or die $@;
  $rest = undef;
  goto &$AUTOLOAD;
}

__DATA__

# What makes a slot compile this, for all its runs.
sub be_whole { }

# PID 1 in namespaces that its slot has made.
sub be_first {
  $alone = 1;
  tend();
}

# As a shell would: what the kernel does not know is for it.
sub fail_exec {
  my $error = $! + 0;
  if ($error == 8) {
    %ENV = map { split /=/, $_, 2 } @environment;
    exec '/bin/sh', @argv;
  }
  $! = $error;
  fail_script("$argv[0] cannot be executed: $!", $error == 2 ? 127 : 126);
}

# Letters of the worker's, or its end.
sub hear {
  my $got = sysread $control, my $letters, 64;
  return if !defined $got and $! == 4;
  return $killing = 1 if !$got or $letters =~ /k/;
  terminate() if $letters =~ /t/;
}

# Also what the worker itself has inherited from whoever started it.
sub close_all_but_standard {
  # What is taken over above that is closed by the exec.
  $^F = 2;
  opendir my $fds, '/proc/self/fd' or return;
  for my $fd (grep { /^\d+$/ and $_ > 2 and $_ != fileno $fds } readdir $fds) {
    if (open(my $inherited, '<&=', $fd)) { close $inherited }
  }
}

sub fail_script {
  my ($why, $code) = @_;
  syswrite STDERR, "builder: $why\n";
  # Perl would warn of what was closed beneath it, into the run's log.
  open STDERR, '>', '/dev/null';
  exit $code;
}

# A process that forks meanwhile is in the same group as its parent, most often: one call reaches the group as a whole.
sub terminate {
  $terminated = 1;
  # Until it has a group of its own the leader still ignores what its parent does.
  for (1 .. 1000) {
    last if $alone or defined $status or getpgrp($leader) == $leader;
    select undef, undef, undef, 0.001;
    reap();
  }
  if ($alone) { kill 'TERM', -1 }
  elsif (!defined $status) { kill 'TERM', -$leader }
  for my $one (left()) {
    kill 'TERM', $one->{pid} unless $alone or !defined $status and $one->{group} == $leader;
    kill 'CONT', $one->{pid} if $one->{state} eq 'T';
  }
}

# The leader has ended. Those who hold its output are waited for, after a SIGTERM everybody is; the worker says for how long.
sub settle {
  my $poll = $poll_ms;
  for (;;) {
    my @left = left();
    $held = grep { holds_output($_->{pid}) } @left;
    return unless @left and ($held or $terminated);
    return if $killing;
    wait_for($poll / 1000, -1);
    reap();
    $poll = $poll * 1.5 < $poll_ms_max ? $poll * 1.5 : $poll_ms_max;
  }
}

sub kill_all {
  $alone ? kill_namespace() : kill_descendants();
}

# Everybody but PID 1 is stopped in one step, so none can fork while they are named, then killed in one step.
sub kill_namespace {
  kill 'STOP', -1;
  my $count = 0;
  for my $one (left()) {
    next if !defined $status and $one->{pid} == $leader;
    last if $count++ == $killed_max;
    $said .= "killed $one->{pid} " . command_of($one->{pid}) . "\n";
  }
  kill 'KILL', -1;
  while ((my $pid = waitpid -1, 0) > 0) { note_end($pid) }
}

# Stopped one by one, again and again until nobody new is found, so that nothing forks away from the kill. What has just lost its parent
# comes here as a child; it is over when there is none.
sub kill_descendants {
  my ($end, $count, %told) = (time + $kill_ms_max / 1000, 0);
  while (reap()) {
    my (%stopped, @fresh);
    do {
      @fresh = grep { !$stopped{ $_->{pid} } } left();
      for my $one (@fresh) {
        kill 'STOP', $one->{pid};
        $stopped{ $one->{pid} } = 1;
      }
    } while @fresh and time <= $end;
    for my $pid (keys %stopped) {
      next if $told{$pid}++ or !defined $status and $pid == $leader or $count >= $killed_max;
      my $command = command_of($pid) // next;
      $said .= "killed $pid $command\n";
      $count += 1;
    }
    kill 'KILL', $_ for keys %stopped;
    if (time > $end) {
      $said .= 'stuck ' . (scalar(my @alive = left()) || 1) . "\n";
      speak();
      exit 1;
    }
    # Until one of them has died; those that are not ours yet come when their parents are gone.
    select undef, undef, undef, 0.001 if reap() and !grep { !$stopped{ $_->{pid} } } left();
  }
}

# The living of this run, this process excepted; zombies are dead.
sub left {
  opendir my $proc, '/proc' or return;
  my (@all, %children);
  for my $pid (grep { /^\d+$/ and $_ != $$ } readdir $proc) {
    my $stat = slurp("/proc/$pid/stat") // next;
    my ($state, $parent, $group, $threads) = (split ' ', substr $stat, rindex($stat, ')') + 1)[0, 1, 2, 17];
    next unless defined $threads;
    # A process whose first thread has ended looks dead while the others live.
    push @all, my $one = { pid => $pid, state => $state, group => $group, dead => $state =~ /[ZX]/ && $threads <= 1 };
    push @{ $children{$parent} }, $one;
  }
  @all = descendants(\%children) unless $alone;
  return grep { !$_->{dead} } @all;
}

sub descendants {
  my ($children) = @_;
  my @found = @{ $children->{$$} // [] };
  for (my $at = 0; $at < @found; $at += 1) { push @found, @{ $children->{ $found[$at]{pid} } // [] } }
  return @found;
}

sub holds_output {
  my ($pid) = @_;
  opendir my $fds, "/proc/$pid/fd" or return 0;
  return scalar grep { $output{ readlink("/proc/$pid/fd/$_") // '' } } readdir $fds;
}

# Undefined for one that is gone.
sub command_of {
  my ($pid) = @_;
  my $command = slurp("/proc/$pid/cmdline") // return undef;
  if ($command eq '') { $command = '[' . (slurp("/proc/$pid/comm") // return undef) . ']' }
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

# A network namespace begins with its loopback interface down: SIOCSIFFLAGS with IFF_UP and IFF_RUNNING.
sub raise_loopback {
  socket(my $socket, 2, 2, 0) or return;
  my $request = pack('a16 s x22', 'lo', 0x41);
  ioctl $socket, 0x8914, $request;
}
