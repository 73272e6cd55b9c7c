# Processes that talk by System V IPC alone, with Perl's own calls: one sends numbers through a
# message queue to one that expects each once and in order; two count in a semaphore, each time under
# another one that they take with SEM_UNDO. No call may fail, by EINTR neither. Started by
# tests/programs/test_perl.py.
use strict;
use warnings;
use IO::Handle;
use IPC::SysV qw(IPC_CREAT IPC_PRIVATE IPC_RMID SEM_UNDO GETVAL SETVAL);

my ($MUTEX, $COUNT, $STOP) = (0, 1, 2);
my $MODULUS = 30_000;
my $MOST = 60_000;    # if nobody ever says stop
my $folder = $ENV{VICTIM_FOLDER};
STDOUT->autoflush(1);

my $set = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600) // die "semget: $!";
my $queue = msgget(IPC_PRIVATE, IPC_CREAT | 0600) // die "msgget: $!";

sub operate {
    my ($num, $op, $flags) = @_;
    semop($set, pack('s!3', $num, $op, $flags)) or die "semop: $!";
}

sub value { return 0 + (semctl($set, $_[0], GETVAL, 0) // die "semctl: $!") }

sub put { semctl($set, $_[0], SETVAL, $_[1]) // die "semctl: $!" }

sub rest { select(undef, undef, undef, 0.001) }

sub produce {
    my $number = 0;
    while (!value($STOP) && $number < $MOST) {
        $number++;
        msgsnd($queue, pack('l! a*', 1 + $number % 3, "$number"), 0) or die "msgsnd: $!";
        rest() if $number % 20 == 0;
    }
    msgsnd($queue, pack('l! a*', 9, "$number"), 0) or die "msgsnd: $!";
}

sub consume {
    my $number = 0;
    while (1) {
        my $message;
        msgrcv($queue, $message, 100, 0, 0) // die "msgrcv: $!";
        my ($type, $text) = unpack('l! a*', $message);
        if ($type == 9) {
            $text == $number or die "sent $text, received $number";
            print "received $number\n";
            return;
        }
        $number++;
        $text == $number && $type == 1 + $number % 3 or die "$text in the place of $number";
    }
}

sub count {
    my $rounds = 0;
    while (!value($STOP) && $rounds < $MOST) {
        operate($MUTEX, -1, SEM_UNDO);
        my $seen = value($COUNT);
        rest();
        value($COUNT) == $seen or die 'two are under the mutex';
        put($COUNT, ($seen + 1) % $MODULUS);
        operate($MUTEX, 1, SEM_UNDO);
        $rounds++;
    }
    print "counted $rounds\n";
}

sub start {
    my ($body) = @_;
    my $pid = fork() // die "fork: $!";
    if (!$pid) { $body->(); exit 0 }
    return $pid;
}

put($MUTEX, 1);
my @children = map { start($_) } \&produce, \&consume, \&count, \&count;
open(my $ids, '>', "$folder/ids") or die "ids: $!";
print $ids "$set $queue\n";
close($ids);
open(my $ready, '>', "$folder/ready") or die "ready: $!";
print $ready "ready\n";
close($ready);
open(my $go, '<', "$folder/go") or die "go: $!";
close($go);
operate($STOP, 1, 0);
for my $pid (@children) {
    waitpid($pid, 0) == $pid && $? == 0 or die "child $pid: $?";
}
value($MUTEX) == 1 or die 'the mutex is not free';
print 'count ', value($COUNT), "\n";
semctl($set, 0, IPC_RMID, 0) // die "semctl: $!";
msgctl($queue, IPC_RMID, 0) // die "msgctl: $!";
print "EXIT-SUCCESS\n";
