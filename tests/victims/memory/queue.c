/* A message queue of System V under a key, between a root and its child: messages of several types
 * and sizes, one of no bytes, last users, a child that waits for a type that is not there. */
#include "sysvid.h"
#include <sys/ipc.h>
#include <sys/msg.h>

enum { NR = 12, LARGE = 4000, AWAITED = 77 };
static int id;
static int began[2];

struct message {
        long type;
        uint64_t text[LARGE / 8];
};

static size_t length_of(int i)
{
        return i == 3 ? 0 : i == 5 ? LARGE : (size_t)i * 13;
}

static void send_message(long type, size_t length, uint64_t seed)
{
        struct message message = {.type = type};

        fill(message.text, (length + 7) / 8 * 8, seed);
        CALL(msgsnd(id, &message, length, 0));
}

static void receive(long wanted, long type, size_t length, uint64_t seed)
{
        struct message message, sent;

        fill(sent.text, (length + 7) / 8 * 8, seed);
        CHECK(CALL(msgrcv(id, &message, LARGE, wanted, 0)) == (ssize_t)length);
        CHECK(message.type == type && !memcmp(message.text, sent.text, length));
}

static void sender(void)
{
        for (int i = 0; i < NR; i++)
                send_message(1 + i % 3, length_of(i), (uint64_t)i);
        tell(began[1]);
        receive(AWAITED, AWAITED, 8, 1000);
}

int main(void)
{
        struct msqid_ds ds = {.msg_perm = {.uid = 1234, .gid = 4321, .mode = 0620},
                              .msg_qbytes = 9000};
        pid_t other;

        /* A victim that was killed has left its own; the key is nobody else's. */
        id = msgget(0x5f000000 | getpid(), 0);
        if (id >= 0)
                CALL(msgctl(id, IPC_RMID, NULL));
        ask_for_an_id_of_our_own("/proc/sys/kernel/msg_next_id");
        id = CALL(msgget(0x5f000000 | getpid(), IPC_CREAT | IPC_EXCL | 0600));
        CALL(msgctl(id, IPC_SET, &ds));
        CALL(pipe(began));
        other = child(sender);
        hear(began[0]);
        receive(1, 1, length_of(0), 0);
        until_blocked(other);
        ready_and_wait();
        CALL(msgctl(id, IPC_STAT, &ds));
        CHECK(ds.msg_perm.uid == 1234 && ds.msg_perm.gid == 4321 && ds.msg_qbytes == 9000);
        CHECK((ds.msg_perm.mode & 0777) == 0620 && ds.msg_qnum == NR - 1);
        CHECK(ds.msg_lspid == other && ds.msg_lrpid == getpid());
        CHECK(CALL(msgget(ds.msg_perm.__key, 0)) == id);
        for (int i = 1; i < NR; i++)
                receive(0, 1 + i % 3, length_of(i), (uint64_t)i);
        send_message(AWAITED, 8, 1000);
        join_child(other);
        CALL(msgctl(id, IPC_RMID, NULL));
        pass();
}
