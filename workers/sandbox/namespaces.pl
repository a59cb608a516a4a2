# Makes the namespaces of a run: a part of slot.pl in a room. A room is what bwrap has made for the slot (bwrap.ts): the host's files, read-only,
# but for the folders of the runs, with devices of its own, and the capabilities for what is made here.
#
# WORD…: the numbers of the system calls clone(2), unshare(2), mount(2), capset(2), setsid(2) and exit_group(2) on this machine; which capabilities
# root keeps, by bits (0: this is not root's); where the folders of the runs lie. Descriptor 4 is the worker's table of mounts, opened before bwrap looked at it.
# What a run sees, in words: "on" or "none" for the network; then "bind AT FROM", "tmpfs AT", "mask AT" and "read-only AT" as in run-view.ts, in
# their order.
package Namespaces;
use strict;

my ($NEWNS, $NEWUTS, $NEWIPC, $NEWUSER, $NEWPID, $NEWNET) = (0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000);
my ($RDONLY, $NOSUID, $NODEV, $NOEXEC, $REMOUNT, $BIND, $REC, $PRIVATE) = (1, 2, 4, 8, 32, 4096, 16384, 262144);
my ($O_PATH, $MSG_PEEK, $EINVAL, $SIGKILL, $SIGCHLD) = (010000000, 2, 22, 9, 17);
my ($PR_SET_PDEATHSIG, $PR_CAPBSET_DROP, $CAPABILITY_VERSION) = (1, 24, 0x20080522);
# Of /proc, where a part of the host's state could be written.
my @HOSTS = qw(sys fs sysrq-trigger irq bus);
# Of /dev, the host's own: bwrap makes no others (--dev in bwrap(1)).
my @NODES = qw(null zero full random urandom tty);

my ($prctl, $clone, $unshare, $mount, $capset, $setsid, $exit, $kept);
my ($mounts, $runs, $held, $place);

sub prepare {
  ($prctl, $clone, $unshare, $mount, $capset, $setsid, $exit, $kept) = map { $_ + 0 } splice @_, 0, 8;
  ($runs) = @_;
  open $mounts, '<&=', 4 or die "cannot use the worker's table of mounts: $!\n";
  # While it is open no other folder has its number.
  sysopen($held, $runs, $O_PATH) or die "cannot open $runs: $!\n";
  $place = place_of($runs);
  # Its own, also where a namespace of users owns what bwrap has made; nothing of what the host mounts later comes in, where it could be written.
  syscall($unshare, $NEWNS) == 0 or die "cannot make a namespace of mounts: $!\n";
  mount_at('/', '', '', $REC | $PRIVATE);
  # Rights and owners of devices are nothing for a run to leave to others.
  mount_at('/dev/pts', '', '', $REMOUNT | $BIND | $RDONLY | $NOSUID | $NOEXEC);
  return unless $kept;
  mount_at("/dev/$_", '', '', $REMOUNT | $BIND | $RDONLY | $NOSUID) for @NODES;
  bound_capabilities();
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

# As fork, with new namespaces for the child, which is PID 1 in them. clone(2) itself, since perl has no other way to name them.
sub fork_apart {
  my ($network) = @_;
  my $pid = syscall $clone, $NEWPID | $NEWNS | $NEWIPC | $NEWUTS | ($network eq 'none' ? $NEWNET : 0) | $SIGCHLD, 0, 0, 0, 0;
  return $pid < 0 ? undef : $pid;
}

sub enter {
  my ($mark, $network, @view) = @_;
  # In the place of the mark in its environment: so it is found where its worker is no more (process-table.ts). The kernel takes the first word, of 15
  # letters, for the name of the command, in which some do not expect a blank.
  $0 = "builder-init-of $mark";
  # A session of its own: what a script sets for its session (sched(7), autogroup) is for its run.
  syscall($setsid) > 0 or die "cannot begin a session: $!\n";
  # It ends with its slot.
  syscall($prctl, $PR_SET_PDEATHSIG, $SIGKILL, 0, 0, 0) == 0 or die "cannot bind init to its slot: $!\n";
  Init::raise_loopback() if $network eq 'none';
  show(@view);
  show_devices();
  enter_own_users() unless $kept;
  give_up_capabilities();
}

sub show {
  my (@view, %sources, @steps) = @_;
  while (my ($kind, $at) = splice @view, 0, 2) { push @steps, [$kind, $at, $kind eq 'bind' ? shift @view : undef] }
  # What is bound may be covered by then.
  for my $from (grep { defined } map { $_->[2] } @steps) {
    $sources{$from} or sysopen($sources{$from}, $from, $O_PATH) or die "cannot open $from: $!\n";
  }
  for (@steps) {
    my ($kind, $at, $from) = @$_;
    make_folders($at) unless $kind eq 'mask';
    if    ($kind eq 'bind')  { mount_at($at, '/proc/self/fd/' . fileno $sources{$from}, '', $BIND) }
    elsif ($kind eq 'tmpfs') { mount_at($at, 'tmpfs', 'tmpfs', $NOSUID | $NODEV, 'mode=0755') }
    elsif ($kind eq 'mask') {
      mount_at($at, '/dev/null', '', $BIND);
      protect($at);
    }
    else { protect($at) }
  }
}

# What is in memory goes with the run.
sub show_devices {
  mount_at('/dev/shm', 'tmpfs', 'tmpfs', $NOSUID | $NODEV, 'mode=0755');
  mount_at('/proc', 'proc', 'proc', $NOSUID | $NODEV | $NOEXEC);
  for my $at (map { "/proc/$_" } @HOSTS) {
    next unless -w $at;
    mount_at($at, $at, '', $BIND);
    protect($at);
  }
}

sub mount_at {
  my ($at, $from, $kind, $flags, $options) = (@_, '');
  syscall($mount, $from, $at, $kind, $flags, $options) == 0 or die "cannot mount $at: $!\n";
}

# Nothing can be written there, and no device be opened.
sub protect {
  mount_at($_[0], '', '', $REMOUNT | $BIND | $RDONLY | $NOSUID | $NODEV | $NOEXEC);
}

sub make_folders {
  my ($path) = @_;
  return if -d $path;
  my $made = '';
  for my $name (grep { length } split m{/}, $path) {
    $made .= "/$name";
    -d $made or mkdir $made, 0755 or die "cannot make $made: $!\n";
  }
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
    next if syscall($prctl, $PR_CAPBSET_DROP, $number, 0, 0, 0) == 0;
    last if $! == $EINVAL;    # behind the last that this kernel has
    die "cannot give up capability $number: $!\n";
  }
}

sub give_up_capabilities {
  my $header = pack 'LL', $CAPABILITY_VERSION, 0;
  my ($low, $high) = ($kept & 0xffffffff, $kept >> 32);
  my $sets = pack 'L6', ($low) x 3, ($high) x 3;
  syscall($capset, $header, $sets) == 0 or die "cannot give up capabilities: $!\n";
}

# At once: perl would look through all that it has first. A signal of its own does not end PID 1.
sub leave {
  syscall $exit, 0;
}

1;
