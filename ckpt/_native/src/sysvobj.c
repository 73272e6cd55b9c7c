/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#define PERMISSIONS 0777
#define OURS_ALONE  0600

/* semctl(2) leaves this to its callers. */
union arg {
        int value;
        struct semid_ds *set;
        unsigned short *values;
};

static void take_perm(struct ckpt_sysv *object, const struct ipc_perm *perm)
{
        *object = (struct ckpt_sysv){
            .key = (uint32_t)perm->__key,
            .uid = perm->uid,
            .gid = perm->gid,
            .cuid = perm->cuid,
            .cgid = perm->cgid,
            .mode = perm->mode & PERMISSIONS,
        };
}

long ckpt_sysv_look(int kind, int id, struct ckpt_sysv *object)
{
        struct semid_ds set;
        struct msqid_ds queue;

        if (kind == CKPT_SYSV_SEM) {
                if (semctl(id, 0, IPC_STAT, (union arg){.set = &set}) < 0)
                        return -errno;
                take_perm(object, &set.sem_perm);
                object->nr = set.sem_nsems;
                return 0;
        }
        if (msgctl(id, IPC_STAT, &queue) < 0)
                return -errno;
        take_perm(object, &queue.msg_perm);
        object->nr = queue.msg_qnum;
        object->nr_bytes = queue.__msg_cbytes;
        object->max_bytes = queue.msg_qbytes;
        object->sender = queue.msg_lspid;
        object->receiver = queue.msg_lrpid;
        return 0;
}

long ckpt_sysv_find(int kind, uint32_t key)
{
        if (kind == CKPT_SYSV_SEM)
                return ckpt_result(semget((key_t)key, 0, 0));
        return ckpt_result(msgget((key_t)key, 0));
}

static long make_as_creator(int kind, const struct ckpt_sysv *wanted)
{
        struct ckpt_creator creator = {.uid = wanted->cuid, .gid = wanted->cgid};
        int flags = IPC_CREAT | IPC_EXCL | OURS_ALONE;
        long id = ckpt_creator_become(&creator);
        long back;

        if (id == 0 && kind == CKPT_SYSV_SEM)
                id = ckpt_result(semget((key_t)wanted->key, (int)wanted->nr, flags));
        else if (id == 0)
                id = ckpt_result(msgget((key_t)wanted->key, flags));
        back = ckpt_creator_leave(&creator);
        return id >= 0 && back < 0 ? back : id;
}

long ckpt_sysv_make(int kind, int id, const struct ckpt_sysv *wanted)
{
        const char *file =
            kind == CKPT_SYSV_SEM ? "/proc/sys/kernel/sem_next_id" : "/proc/sys/kernel/msg_next_id";
        long got = ckpt_ask_for_id(file, id);

        if (got == 0)
                got = make_as_creator(kind, wanted);
        if (got < 0 || got == id)
                return got < 0 ? got : 0;
        ckpt_sysv_remove(kind, (int)got);
        return -EEXIST;
}

long ckpt_sysv_set(int kind, int id, const struct ckpt_sysv *wanted)
{
        struct ipc_perm perm = {
            .uid = wanted->uid,
            .gid = wanted->gid,
            .mode = (unsigned short)(wanted->mode & PERMISSIONS),
        };
        struct semid_ds set = {.sem_perm = perm};
        struct msqid_ds queue = {.msg_perm = perm, .msg_qbytes = wanted->max_bytes};

        if (kind == CKPT_SYSV_SEM)
                return ckpt_result(semctl(id, 0, IPC_SET, (union arg){.set = &set}));
        return ckpt_result(msgctl(id, IPC_SET, &queue));
}

long ckpt_sysv_remove(int kind, int id)
{
        if (kind == CKPT_SYSV_SEM)
                return ckpt_result(semctl(id, 0, IPC_RMID));
        return ckpt_result(msgctl(id, IPC_RMID, NULL));
}

long ckpt_sem_read(int id, uint32_t nr, uint16_t *values, int32_t *last, uint64_t *waiting)
{
        *waiting = 0;
        if (semctl(id, 0, GETALL, (union arg){.values = values}) < 0)
                return -errno;
        for (uint32_t i = 0; i < nr; i++) {
                int increase = semctl(id, (int)i, GETNCNT);
                int zero = semctl(id, (int)i, GETZCNT);

                last[i] = semctl(id, (int)i, GETPID);
                if (increase < 0 || zero < 0 || last[i] < 0)
                        return -errno;
                *waiting += (uint64_t)increase + (uint64_t)zero;
        }
        return 0;
}

long ckpt_sem_fill(int id, uint32_t nr, const uint16_t *values)
{
        for (uint32_t i = 0; i < nr; i++) {
                int value = semctl(id, (int)i, GETVAL);

                if (value < 0)
                        return -errno;
                if (value != values[i] &&
                    semctl(id, (int)i, SETVAL, (union arg){.value = values[i]}) < 0)
                        return -errno;
        }
        return 0;
}

/* As msgop(2) has a message, and as it is read and filled here: a length stands behind the type. */
struct message {
        int64_t type;
        char text[];
};

struct record {
        int64_t type;
        uint64_t length;
        uint8_t text[];
};

long ckpt_msg_read(int id, uint8_t *out, uint64_t size)
{
        uint64_t at = 0;
        long result = 0;
        struct message *message = malloc(sizeof(*message) + size);

        if (!message)
                return -ENOMEM;
        for (long index = 0;; index++) {
                struct record record;
                ssize_t length =
                    msgrcv(id, message, size, index, MSG_COPY | IPC_NOWAIT | MSG_NOERROR);

                if (length < 0) {
                        result = errno == ENOMSG ? 0 : -errno;
                        break;
                }
                if (size - at < sizeof(record) + (uint64_t)length) {
                        result = -EMSGSIZE;
                        break;
                }
                record = (struct record){.type = message->type, .length = (uint64_t)length};
                memcpy(out + at, &record, sizeof(record));
                memcpy(out + at + sizeof(record), message->text, (size_t)length);
                at += sizeof(record) + (uint64_t)length;
        }
        free(message);
        return result < 0 ? result : (long)at;
}

long ckpt_msg_fill(int id, const uint8_t *messages, uint64_t size)
{
        struct message *message = malloc(sizeof(*message) + size);
        long result = 0;

        if (!message)
                return -ENOMEM;
        for (uint64_t at = 0; at < size && result == 0;) {
                struct record record;

                if (size - at < sizeof(record)) {
                        result = -EINVAL;
                        break;
                }
                memcpy(&record, messages + at, sizeof(record));
                at += sizeof(record);
                if (record.length > size - at) {
                        result = -EINVAL;
                        break;
                }
                message->type = record.type;
                memcpy(message->text, messages + at, record.length);
                at += record.length;
                result = ckpt_result(msgsnd(id, message, record.length, IPC_NOWAIT));
        }
        free(message);
        return result;
}

long ckpt_msg_empty(int id)
{
        struct message none;

        while (msgrcv(id, &none, 0, 0, MSG_NOERROR | IPC_NOWAIT) >= 0)
                ;
        return errno == ENOMSG ? 0 : -errno;
}
