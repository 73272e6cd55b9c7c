/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Staying with a tree that runs while its memory is copied: whatever would take memory away that
 * was not copied yet is held until it was.
 *
 * Always caught: the end of the last thread that uses a memory. With `calls` also each call that
 * unmaps, cuts or replaces memory, execve(2) among them; that costs two stops for every system call
 * of the tree. New threads are watched as well.
 *
 * All of this must be called by the thread of ours that seized them. Should it end, the kernel lets
 * everybody go.
 *
 * Source: ptrace(2).
 */

struct ckpt_watch;

/* NULL: no memory or descriptor. `live` must outlive it. */
struct ckpt_watch *ckpt_watch_new(struct ckpt_live *live);
void ckpt_watch_free(struct ckpt_watch *watch);

/* Thread `tid` of process `pid` stands; `mm` is the index of its memory, or -1. `group_stop`: its
 * process is stopped by a signal. */
long ckpt_watch_add(struct ckpt_watch *watch, int tid, int pid, long mm, int group_stop);

/* Let all run. */
void ckpt_watch_resume(struct ckpt_watch *watch, int calls);

/* Serve until the snapshot is over (1), the time is (0), or a signal came (0). */
long ckpt_watch_run(struct ckpt_watch *watch, int timeout_ms);
