/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Copy before write: the memory of one instant is written out while its owner goes on writing.
 *
 * An address space is added while its threads run; until it is covered, a write-protect fault only
 * takes the protection of its pages. Once it is covered, a page is copied out before it loses its
 * protection: for a fault at once, else when the sweep comes to it. Four threads work together,
 * each in one function of this header; what they share is under one lock.
 *
 * 1. serve: faults and events. It never waits for a disk, only for room.
 * 2. sweep: what nobody writes to.
 * 3. write: from buffers into the pages files.
 * 4. whoever calls the others. ckpt_live_save() may be called while the owner waits before a call
 *    that gives memory back.
 *
 * A page that was not protected any more, or was gone, before it was copied loses the snapshot:
 * ckpt_live_result() tells. There is no way to a whole one then.
 *
 * Source: userfaultfd(2), ioctl_userfaultfd(2), fs/userfaultfd.c.
 */

struct ckpt_live;

/* Pages, unless the name says otherwise. */
struct ckpt_live_figures {
        uint64_t nr_noted;      /* faults before the memory was covered */
        uint64_t nr_unmappings; /* events of then and later: memory was unmapped or moved */
        uint64_t nr_faults;     /* faults since */
        uint64_t fault_pages;   /* copied for these */
        uint64_t swept_pages;   /* copied by the sweep */
        uint64_t saved_pages;   /* copied because they were about to be given back */
        uint64_t covered_pages; /* all that is to be copied */
        uint64_t done_pages;    /* all that was */
        uint64_t peak_bytes;    /* of buffers */
        uint64_t lost_addr;     /* where the snapshot was lost */
        int32_t lost_pid;
        int32_t error; /* 0, or the -errno of a server that gave up */
};

/* `room`: bytes of buffers, at least CKPT_LIVE_ROOM_MIN. NULL: no memory, no eventfd. */
#define CKPT_LIVE_ROOM_MIN (4 << 20)
struct ckpt_live *ckpt_live_new(uint64_t room);

/* After the threads have returned. Closes none of the descriptors that were added. */
void ckpt_live_free(struct ckpt_live *live);

/* Add an address space: descriptors of its userfaultfd (non-blocking), /proc/PID/mem and pagemap,
 * and /proc/self/fdinfo of the first. Returns its index. `lent`: it is somebody else's, who tracks
 * writes by it: only pages that are written to lose their protection. */
long ckpt_live_add(struct ckpt_live *live, int pid, int uffd, int mem, int pagemap, int fdinfo,
                   int lent);

/* What of `mm` was noted since the last call of the same kind, ascending and disjoint, in `*out`;
 * returns the number of ranges, or -EOVERFLOW if there were too many to remember.
 *
 * CKPT_LIVE_NOTED: what has lost its protection or was taken away, moved or changed hands. Before
 * it is covered.
 * CKPT_LIVE_DISPLACED: where memory has come to with its protection: pages there are others than
 * before, whatever their protection says. At any time. */
#define CKPT_LIVE_NOTED     0
#define CKPT_LIVE_DISPLACED 1
long ckpt_live_noted(struct ckpt_live *live, long mm, int which, struct ckpt_extent **out);

/* The memory `covered`, all of it protected or about to be, is what must be copied, into the file
 * `pages` that holds the pages of `all` in the order of their addresses. `covered` is part of
 * `all`. From here on nothing loses its protection before it was copied. */
long ckpt_live_cover(struct ckpt_live *live, long mm, const struct ckpt_extent *all,
                     uint64_t nr_all, const struct ckpt_extent *covered, uint64_t nr_covered,
                     int pages);

/* These of what is covered are somebody else's to copy, who does so before they are written to. */
long ckpt_live_leave_out(struct ckpt_live *live, long mm, const struct ckpt_extent *pages,
                         uint64_t nr);

/* Let the sweep begin, which works at most `percent` of the time. */
void ckpt_live_begin(struct ckpt_live *live, unsigned percent);

/* The threads; they return after ckpt_live_stop(). Whatever went wrong is in the figures. */
void ckpt_live_serve(struct ckpt_live *live);
void ckpt_live_sweep(struct ckpt_live *live);
void ckpt_live_write(struct ckpt_live *live);
void ckpt_live_stop(struct ckpt_live *live);

/* Copy what is left of [start, end) at once. */
void ckpt_live_save(struct ckpt_live *live, long mm, uint64_t start, uint64_t end);

/* 1: everything was copied and written; 0: not yet; -ENODATA: lost; or the -errno of a write. */
long ckpt_live_result(struct ckpt_live *live, struct ckpt_live_figures *figures);

/* A descriptor that becomes readable when ckpt_live_result() is no longer 0. */
int ckpt_live_done(const struct ckpt_live *live);
