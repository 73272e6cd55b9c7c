/* SPDX-License-Identifier: GPL-2.0-only
 *
 * System V semaphores and message queues, in this process's own namespace. semctl(2), msgctl(2),
 * msgop(2).
 */

#define CKPT_SYSV_SEM 1
#define CKPT_SYSV_MSG 2

/* A set of `nr` semaphores, or a queue of `nr` messages, `nr_bytes` of text and room for
 * `max_bytes`. */
struct ckpt_sysv {
        uint32_t key, uid, gid, cuid, cgid, mode;
        uint64_t nr;
        uint64_t nr_bytes;
        uint64_t max_bytes;
        int32_t sender; /* the last one, and the last receiver */
        int32_t receiver;
};

/* What object `id` of a kind is. */
long ckpt_sysv_look(int kind, int id, struct ckpt_sysv *object);

/* The id of the object with this key, or -ENOENT. */
long ckpt_sysv_find(int kind, uint32_t key);

/* Make a set of `wanted->nr` semaphores, all 0, or an empty queue, with this key and creator, and
 * no other id than `id`; its owner is the creator, who alone may use it: -EEXIST where id or key is
 * taken. Writes /proc/sys/kernel/{sem,msg}_next_id, which needs CAP_SYS_ADMIN or
 * CAP_CHECKPOINT_RESTORE. Nothing is left after a failure. */
long ckpt_sysv_make(int kind, int id, const struct ckpt_sysv *wanted);

/* Give an existing one this owner and mode, and a queue its room. */
long ckpt_sysv_set(int kind, int id, const struct ckpt_sysv *wanted);

long ckpt_sysv_remove(int kind, int id);

/* The values of a set of `nr`, who was the last to operate on each (0: nobody), and how many wait
 * for one of them. */
long ckpt_sem_read(int id, uint32_t nr, uint16_t *values, int32_t *last, uint64_t *waiting);

/* Give those of the `nr` semaphores of a set their values that have others. */
long ckpt_sem_fill(int id, uint32_t nr, const uint16_t *values);

/* Copy the messages of a queue, which keeps them: for each its type and its length (64 bits both),
 * then its text. Returns how many bytes that took; -EMSGSIZE where `size` are too few, -ENOSYS of a
 * kernel without CONFIG_CHECKPOINT_RESTORE. */
long ckpt_msg_read(int id, uint8_t *out, uint64_t size);

/* Send the messages that `ckpt_msg_read` has read; does not wait. */
long ckpt_msg_fill(int id, const uint8_t *messages, uint64_t size);

/* Remove all messages. */
long ckpt_msg_empty(int id);
