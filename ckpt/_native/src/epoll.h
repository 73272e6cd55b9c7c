/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Whether an epoll instance watches descriptors, of many at once: kcmp(2) looks through all watches
 * for each answer, which takes a second for 10,000.
 */

/* Whether descriptor `fd` of a process is watched under this number, with just these events and
 * data. `present`: 1 yes, 0 not known. */
struct ckpt_epoll_watch {
        int32_t fd;
        uint32_t events; /* as in fdinfo */
        uint64_t data;
        uint32_t present;
        uint32_t unused;
};

/* Ask for each watch on `epoll`, a descriptor of ours, by setting what it has already
 * (EPOLL_CTL_MOD): an instance looks its watches up by file and number. So a short-lived process
 * with a table of its own takes the descriptor of the process `pidfd` to the same number. This
 * changes nothing if
 *   - asking the file for its events consumes none: eventfds, timerfds and pipes;
 *   - the watch has not fired as a one-shot, and does not wake the system (EPOLLWAKEUP);
 *   - it waits for levels; or for edges, and the file has nothing to tell now (asked here first).
 * The first two are the caller's to see to. Numbers that can't be had here are not known. */
long ckpt_epoll_watches(int pidfd, int epoll, struct ckpt_epoll_watch *watches, uint64_t nr);
