/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Shared memory in a live snapshot: part of live.h. An object is copied once, whoever maps it, and
 * read through a descriptor of its own, so that it outlives its mappings. A view is one address
 * space that maps objects, by a userfaultfd that tells of forks: a child comes with a view of its
 * own, protected as its parent's is.
 *
 * All who may write to an object must be views: nobody else may map it, or have a descriptor of it
 * that can be written to. This is not checked here.
 *
 * A view's mappings may be taken away, which harms nothing. One that is moved or doubled while it
 * is not all copied loses the snapshot, for what it leaves behind may be written to unseen.
 */

/* [start, end) of a view maps an object from `offset` on. */
struct ckpt_live_segment {
        uint64_t start;
        uint64_t end;
        uint64_t offset;
        int64_t object;
};

/* A view that was made by a fork. */
struct ckpt_live_child {
        int64_t index;
        int64_t parent; /* the index of its parent's, or of the first of all its parents' */
        int32_t uffd;   /* stays open until ckpt_live_free() */
        int32_t spare;
};

/* An object, by a descriptor for reading; `pid` is only named. Covered like an address space, with
 * offsets for addresses. Returns its index. */
long ckpt_live_add_object(struct ckpt_live *live, int pid, int lfd);

/* The shared memory of an address space, by a second userfaultfd. Returns its index. */
long ckpt_live_add_view(struct ckpt_live *live, int pid, int uffd, int pagemap, int fdinfo);

/* What a view maps, before it is registered. */
long ckpt_live_map(struct ckpt_live *live, long view, const struct ckpt_live_segment *segments,
                   uint64_t nr);

/* The first view with an index of `from` or above that was made by a fork: 1, or 0 if there is
 * none. */
long ckpt_live_next_child(struct ckpt_live *live, long from, struct ckpt_live_child *child);

/* Whether a view is not mapped any more as it was told, but for what was taken away. */
int ckpt_live_moved(struct ckpt_live *live, long view);

/* Where the file `lfd` of `size` bytes has data outside of `known`, in whole pages; stores ranges
 * of offsets in `*out` and returns their number. Moves the file's position. */
long ckpt_find_data(int lfd, uint64_t size, const struct ckpt_extent *known, uint64_t nr_known,
                    struct ckpt_extent **out);

/* When the file `lfd` was made, in ns of CLOCK_BOOTTIME, as far as the wall clock was never set. */
int64_t ckpt_born_ns(int lfd);
