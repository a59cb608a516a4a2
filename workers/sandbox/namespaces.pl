# Makes the namespaces of a run: a part of slot.pl in a room. A room is what bwrap has made for the slot (bwrap.ts): the host's files, read-only,
# but for the folders of the runs, with devices of its own, and the capabilities for what is made here.
#
# WORD…: the numbers of the system calls clone(2), unshare(2), mount(2), capset(2) and exit_group(2) on this machine; which capabilities root keeps, by bits (0: this
# is not root's); the worker's PID.
# What a run sees, in words: "on" or "none" for the network; then "bind AT FROM", "tmpfs AT", "mask AT" and "read-only AT" as in run-view.ts, in
# their order.
package Namespaces;
use strict;

my ($NEWNS, $NEWUTS, $NEWIPC, $NEWUSER, $NEWPID, $NEWNET) = (0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000);
my ($RDONLY, $NOSUID, $NODEV, $NOEXEC, $REMOUNT, $BIND) = (1, 2, 4, 8, 32, 4096);
my ($O_PATH, $EINVAL, $SIGKILL, $SIGCHLD) = (010000000, 22, 9, 17);
my ($PR_SET_PDEATHSIG, $PR_CAPBSET_DROP, $CAPABILITY_VERSION) = (1, 24, 0x20080522);
# Of /proc, where a part of the host's state could be written.
my @HOSTS = qw(sys fs sysrq-trigger irq bus);

my ($prctl, $clone, $unshare, $mount, $capset, $exit, $kept);
my $mounts;

sub prepare {
  my $worker;
  ($prctl, $clone, $unshare, $mount, $capset, $exit, $kept, $worker) = map { $_ + 0 } @_;
  bound_capabilities() if $kept;
  open $mounts, '<', "/proc/$worker/mountinfo" or die "cannot open /proc/$worker/mountinfo: $!\n";
}

# Whether the machine has mounted or unmounted something since this was started, which proc(5) tells and nobody in here sees. Given the worker's
# socket, it waits until that is so or the worker speaks.
sub is_stale {
  my ($control) = @_;
  for (;;) {
    my ($ready, $changed) = ('', '');
    vec($ready, fileno $control, 1) = 1 if $control;
    vec($changed, fileno $mounts, 1) = 1;
    my $count = select $ready, undef, $changed, $control ? undef : 0;
    return $count > 0 && vec $changed, fileno $mounts, 1 unless $count < 0;
  }
}

# As fork, with new namespaces for the child, which is PID 1 in them. clone(2) itself, since perl has no other way to name them.
sub fork_apart {
  my ($network) = @_;
  my $pid = syscall $clone, $NEWPID | $NEWNS | $NEWIPC | $NEWUTS | ($network eq 'none' ? $NEWNET : 0) | $SIGCHLD, 0, 0, 0, 0;
  return $pid < 0 ? undef : $pid;
}

sub enter {
  my ($network, @view) = @_;
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
