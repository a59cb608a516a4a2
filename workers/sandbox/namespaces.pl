# Makes the namespaces of a run: a part of slot.pl in a room. A room is what bwrap has made for the slot (bwrap.ts): the host's files, read-only,
# but for the folders of the runs, with devices of its own, and the capabilities for what is made here.
#
# WORD…: the numbers of the system calls clone(2), unshare(2), mount(2), capset(2), setsid(2), exit_group(2) and mkdirat(2) on this machine; which capabilities
# root keeps, by bits (0: this is not root's); where the folders of the runs lie. Descriptor 4 is the worker's table of mounts, opened before bwrap looked at it.
# What a run sees, in words: "on" or "none" for the network; then "bind AT FROM", "tmpfs AT", "mask AT" and "read-only AT" as in run-view.ts, in
# their order.
package Namespaces;
use strict;

my ($NEWNS, $NEWUTS, $NEWIPC, $NEWUSER, $NEWPID, $NEWNET) = (0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000);
my ($RDONLY, $NOSUID, $NODEV, $NOEXEC, $REMOUNT, $BIND, $REC, $PRIVATE) = (1, 2, 4, 8, 32, 4096, 16384, 262144);
my ($O_PATH, $AT_FDCWD, $MSG_PEEK, $EEXIST, $EINVAL, $SIGKILL, $SIGCHLD) = (010000000, -100, 2, 17, 22, 9, 17);
my ($PR_SET_PDEATHSIG, $PR_CAPBSET_DROP, $CAPABILITY_VERSION) = (1, 24, 0x20080522);
# Of /proc, where a part of the host's state could be written.
my @HOSTS = qw(sys fs sysrq-trigger irq bus);
# Of /dev, the host's own: bwrap makes no others (--dev in bwrap(1)).
my @NODES = qw(null zero full random urandom tty);
# Nothing can be written there, and no device be opened.
my $PROTECTED = $REMOUNT | $BIND | $RDONLY | $NOSUID | $NODEV | $NOEXEC;

my ($clone, $unshare, $mount, $capset, $setsid, $exit, $mkdirat, $kept);
my ($mounts, $runs, $held, $place, @covered, @capabilities);
# Of the next run: what is opened, each with the mounts that are made of it, and the system calls that show the run what it sees, each with what it is told as.
my ($flags, @sources, @steps);

sub prepare {
  ($clone, $unshare, $mount, $capset, $setsid, $exit, $mkdirat, $kept) = map { $_ + 0 } splice @_, 0, 8;
  ($runs) = @_;
  open $mounts, '<&=', 4 or die "cannot use the worker's table of mounts: $!\n";
  # While it is open no other folder has its number.
  sysopen($held, $runs, $O_PATH) or die "cannot open $runs: $!\n";
  $place = place_of($runs);
  @covered = grep { -w } map { "/proc/$_" } @HOSTS;
  my ($low, $high) = ($kept & 0xffffffff, $kept >> 32);
  @capabilities = (pack('LL', $CAPABILITY_VERSION, 0), pack('L6', ($low) x 3, ($high) x 3));
  # Its own, also where a namespace of users owns what bwrap has made; nothing of what the host mounts later comes in, where it could be written.
  syscall($unshare, $NEWNS) == 0 or die "cannot make a namespace of mounts: $!\n";
  @steps = ();
  plan_mount('/', '', '', $REC | $PRIVATE);
  # Rights and owners of devices are nothing for a run to leave to others.
  plan_mount('/dev/pts', '', '', $REMOUNT | $BIND | $RDONLY | $NOSUID | $NOEXEC);
  if ($kept) { plan_mount("/dev/$_", '', '', $REMOUNT | $BIND | $RDONLY | $NOSUID) for @NODES }
  take_steps();
  bound_capabilities() if $kept;
}

# Waits for the worker to launch a run. False where the room is not what it was made of: the machine has mounted or unmounted something, which proc(5)
# tells and nobody in here sees, or the folder of the runs is another one.
sub wait_for_launch {
  my ($control) = @_;
  for (;;) {
    my ($ready, $changed) = ('', '');
    vec($ready,   fileno $control, 1) = 1;
    vec($changed, fileno $mounts,  1) = 1;
    next if select($ready, undef, $changed, undef) < 0;
    return 0 if vec $changed, fileno $mounts, 1;
    next unless vec $ready, fileno $control, 1;
    # A letter was meant for the run before.
    recv $control, my $first, 1, $MSG_PEEK;
    last unless defined $first and $first =~ /[a-z]/;
    sysread $control, $first, 1;
  }
  return (place_of($runs) // '') eq $place;
}

sub place_of {
  my ($device, $number) = stat $_[0] or return undef;
  return "$device $number";
}

# The slot finds out what is to be done for the next run before there is a process of it.
sub plan {
  my ($network, @view) = @_;
  $flags = $NEWPID | $NEWNS | $NEWIPC | $NEWUTS | ($network eq 'none' ? $NEWNET : 0) | $SIGCHLD;
  (@sources, @steps) = ();
  my (%source_of, %made);
  while (my ($kind, $at) = splice @view, 0, 2) {
    plan_folders($at, \%made) unless $kind eq 'mask';
    if ($kind eq 'bind') {
      my $from = shift @view;
      # What is bound may be covered by then.
      push @sources, $source_of{$from} = [pack 'Z*', $from] unless $source_of{$from};
      push @{ $source_of{$from} }, plan_mount($at, '', '', $BIND);
      $made{$at} = 1;
    }
    elsif ($kind eq 'tmpfs') {
      plan_mount($at, 'tmpfs', 'tmpfs', $NOSUID | $NODEV, 'mode=0755');
      $made{$at} = 1;
    }
    else {
      plan_mount($at, '/dev/null', '', $BIND) if $kind eq 'mask';
      plan_mount($at, '', '', $PROTECTED);
    }
  }
  # What is in memory goes with the run.
  plan_mount('/dev/shm', 'tmpfs', 'tmpfs', $NOSUID | $NODEV, 'mode=0755');
  plan_mount('/proc', 'proc', 'proc', $NOSUID | $NODEV | $NOEXEC);
  for my $at (@covered) {
    plan_mount($at, $at, '', $BIND);
    plan_mount($at, '', '', $PROTECTED);
  }
}

# The arguments of mount(2), for who knows more of them later.
sub plan_mount {
  my ($at, $from, $kind, $flags, $options) = (@_, '');
  my @words = map { pack 'Z*', $_ } $from, $at, $kind, $options;
  push @steps, [$mount, [@words[0 .. 2], $flags, $words[3]], "mount $at"];
  return $steps[-1][1];
}

# Those that may not be there, since another folder covers them.
sub plan_folders {
  my ($at, $made) = @_;
  my @missing;
  for (my $path = $at; $path ne ''; $path =~ s{/[^/]*\z}{}) {
    if ($made->{$path}) {
      for my $folder (reverse @missing) {
        push @steps, [$mkdirat, [$AT_FDCWD, pack('Z*', $folder), 0755], "make $folder"];
        $made->{$folder} = 1;
      }
      return;
    }
    push @missing, $path;
  }
}

sub take_steps {
  for my $step (@steps) { syscall($step->[0], @{ $step->[1] }) == 0 or $step->[0] == $mkdirat and $! == $EEXIST or die "cannot $step->[2]: $!\n" }
}

# As fork, with new namespaces for the child, which is PID 1 in them. clone(2) itself, since perl has no other way to name them.
sub fork_apart {
  my $pid = syscall $clone, $flags, 0, 0, 0, 0;
  return $pid < 0 ? undef : $pid;
}

sub enter {
  my ($mark) = @_;
  # In the place of the mark in its environment: so it is found where its worker is no more (process-table.ts). The kernel takes the first word, of 15
  # letters, for the name of the command, in which some do not expect a blank.
  $0 = "builder-init-of $mark";
  # A session of its own: what a script sets for its session (sched(7), autogroup) is for its run.
  syscall($setsid) > 0 or die "cannot begin a session: $!\n";
  # It ends with its slot.
  syscall($Init::prctl, $PR_SET_PDEATHSIG, $SIGKILL, 0, 0, 0) == 0 or die "cannot bind init to its slot: $!\n";
  Init::raise_loopback() if $flags & $NEWNET;
  my @opened;
  for my $source (@sources) {
    my ($from, @targets) = @$source;
    my $fd = syscall $Init::openat, $AT_FDCWD, $from, $O_PATH, 0;
    $fd >= 0 or die 'cannot open ' . unpack('Z*', $from) . ": $!\n";
    $_->[0] = "/proc/self/fd/$fd" for @targets;
    push @opened, $fd;
  }
  take_steps();
  syscall $Init::close, $_ for @opened;
  enter_own_users() unless $kept;
  syscall($capset, @capabilities) == 0 or die "cannot give up capabilities: $!\n";
}

# Keys and limits of a user are the run's own, and whoever owns the mounts above is not of it.
sub enter_own_users {
  my ($user, $group) = ($>, $) + 0);
  syscall($unshare, $NEWUSER) == 0 or die "cannot make a namespace of users: $!\n";
  write_to('/proc/self/setgroups', 'deny');
  write_to('/proc/self/uid_map',   "$user $user 1");
  write_to('/proc/self/gid_map',   "$group $group 1");
  bound_capabilities();
}

sub write_to {
  my ($path, $text) = @_;
  open my $file, '>', $path or die "cannot open $path: $!\n";
  syswrite($file, $text) or die "cannot write $path: $!\n";
}

# What no program that is executed from here on can come to have.
sub bound_capabilities {
  for my $number (0 .. 63) {
    next if $kept >> $number & 1;
    next if syscall($Init::prctl, $PR_CAPBSET_DROP, $number, 0, 0, 0) == 0;
    last if $! == $EINVAL;    # behind the last that this kernel has
    die "cannot give up capability $number: $!\n";
  }
}

# At once: perl would look through all that it has first. A signal of its own does not end PID 1.
sub leave {
  syscall $exit, 0;
}

1;
