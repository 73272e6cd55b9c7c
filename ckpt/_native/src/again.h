/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Calls that the kernel never makes again after an interrupt (signal(7), "Interruption of system
 * calls and library functions by stop signals"): epoll_wait(2) and its like, semop(2),
 * sigtimedwait(2), io_getevents(2), io_uring_enter(2), and whatever sends, receives, accepts or
 * connects at a socket with a timeout. Not one of them has done anything yet when it ends so.
 */

/* For a thread that stands on its way out of such a call: have the kernel make it again when the
 * thread is let go, by whomever, unless a handler is to run first, which the caller waits for. A
 * timeout starts anew. Whatever else the thread does is left alone. */
void ckpt_trace_again(int tid);
