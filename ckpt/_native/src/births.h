/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Catching processes that live for less time than a look from Python takes.
 */

/* Seize and interrupt whoever is in a list of children and can be seized, until a look at all the
 * lists has caught somebody or `budget_ns` are over. `lists` are descriptors of
 * /proc/PID/task/TID/children; one whose thread has ended is empty. `pids` takes up to `room` of
 * those who were caught; returns how many. Only the thread of ours that is the tracer calls it. */
long ckpt_seize_born(const int32_t *lists, uint64_t nr, int64_t budget_ns, int32_t *pids,
                     uint64_t room);
