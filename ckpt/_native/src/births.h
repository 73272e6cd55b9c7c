/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Catching threads and processes that live for less time than a look from Python takes.
 */

struct ckpt_list {
        int32_t fd;  /* of /proc/PID/task, or of /proc/PID/task/TID/children */
        int32_t pid; /* whose threads are listed; 0: it lists children */
};

struct ckpt_born {
        int32_t tid;
        int32_t pid;
};

/* Seize and interrupt whoever is in a list and can be seized, until a look at all the lists has
 * caught somebody or `budget_ns` are over. A list whose owner has ended is empty. `born` takes up
 * to `room` of those who were caught; returns how many. Only the tracer's thread may call it. */
long ckpt_seize_born(const struct ckpt_list *lists, uint64_t nr, int64_t budget_ns,
                     struct ckpt_born *born, uint64_t room);
