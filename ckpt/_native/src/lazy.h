/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The server of MISSING faults: fills the memory of restored processes while they run.
 *
 * Two processes share one descriptor table: the holder, which does nothing, and the server, a clone
 * of it that runs nothing but ckpt_lazy_serve. Whichever of them dies, the other one still has
 * every userfaultfd, so that threads wait instead of reading zeros. What a server knows is a
 * function of two files, so that another one can take over from it at any moment:
 *
 * - the layout: which pages were missing in which address space when it was written;
 * - the journal: every message read from a userfaultfd since, put there by read(2) itself. Messages
 *   that are only faults are taken out again: whoever takes over wakes everybody who waits.
 *
 * Pages that have arrived are in neither: filling one twice is EEXIST, which the kernel decides.
 */

enum { CKPT_LAZY_FILE = 1, CKPT_LAZY_STREAM = 2 };
enum {
        CKPT_LAZY_TRACKED = 1,
        CKPT_LAZY_BORN = 2,
        CKPT_LAZY_OBJECT = 4,   /* shared memory, not an address space; see lazyshare.h */
        CKPT_LAZY_SHARES = 8,   /* the mappings of shared memory in an address space */
        CKPT_LAZY_DOUBTED = 16, /* of such mappings: they may be elsewhere */
        CKPT_LAZY_YOUNG = 32,   /* a child of space number `object`, see lazyorder.h */
        CKPT_LAZY_CHANGE = 64   /* no space, but a change of space number `object` */
};

/* Where pages come from: a file of `size` bytes, or a stream socket, of which `image` is asked.
 * `sums`: NULL, or one XXH3-64 for each `block` bytes; blocks of which `trusted` (a byte each) is
 * not 0 are not looked at. */
struct ckpt_lazy_source {
        int32_t kind;
        int32_t lfd;
        uint64_t image;
        uint64_t size;
        uint64_t block;
        const uint64_t *sums;
        const uint8_t *trusted;
};

/* Missing pages [start, end): the first is at `at` of source number `source`. For files that is an
 * offset, for streams the address at the dump. */
struct ckpt_lazy_run {
        uint64_t start;
        uint64_t end;
        uint64_t source;
        uint64_t at;
};

/* One address space, in a layout file followed by `nr_runs` runs that ascend. `pidfd`: of the
 * process that has it, or -1. Of an object, `uffd` is -1, `object` its number, and the runs are
 * places in it; those of CKPT_LAZY_SHARES have as source the number of an object's space. */
struct ckpt_lazy_space {
        int32_t uffd;
        int32_t pidfd;
        uint32_t flags;
        uint32_t object;
        uint64_t nr_runs;
};

/* Shared memory that comes late. */
struct ckpt_lazy_object {
        int32_t lfd;
        int32_t reserved;
        uint64_t size;
};

/* Pages of address space number `space` to be fetched before others, by their address in the
 * layout. */
struct ckpt_lazy_first {
        uint64_t space;
        uint64_t start;
        uint64_t end;
};

/* What the server tells, in memory that it shares with the holder. Counts are of pages, and start
 * anew with no server. */
struct ckpt_lazy_told {
        uint64_t nr_left;
        uint64_t nr_faults; /* on pages that were missing */
        uint64_t nr_holes;  /* faults on pages that the images don't have */
        uint64_t nr_copied;
        uint64_t nr_there; /* were there already */
        uint64_t nr_gone;  /* were given back before they came */
        uint64_t nr_spaces;
        uint64_t nr_records;
        uint64_t turn; /* which layout and journal are valid: 0 or 1 */
        int64_t error; /* why it has stopped: errno, 0 as long as all is well */
        uint64_t error_source;
        uint64_t error_at;
        int32_t error_space;
        int32_t stop;     /* set by the holder: end now */
        int32_t own_uffd; /* the server's, which outlives it in the descriptor table; 0: none */
};

/* What a server works with. `layouts` and `journals`: two files each, of which `told->turn` names
 * the valid ones. `records`: room for that many runs, in which the first faults are noted: what was
 * brought for each, in their order. */
struct ckpt_lazy_job {
        struct ckpt_lazy_told *told;
        int32_t layouts[2];
        int32_t journals[2];
        uint64_t journal_len;
        const struct ckpt_lazy_source *sources;
        uint64_t nr_sources;
        const struct ckpt_lazy_first *first;
        uint64_t nr_first;
        uint64_t nr_soon; /* so many of them are a guess, the others are a record */
        struct ckpt_lazy_run *records;
        uint64_t nr_records_max;
        uint8_t *moved; /* of each address space of the layout: whether it has moved memory */
        uint64_t nr_moved;
        const struct ckpt_lazy_object *objects;
        uint64_t nr_objects;
};

/* Register [start, end) of each range for missing pages, with `wp` for write protection as well;
 * 0 or -errno, and what was registered before the failing one stays so. */
long ckpt_lazy_register(int uffd, const struct ckpt_extent *in, uint64_t nr_in, int wp);

/* Clone a server that shares this process's descriptor table and works on `job`; its pid. This
 * process must have one thread. The server ends with
 * status 0 when nothing is missing any more and nobody is tracked, with 1 when `told` says why not.
 */
long ckpt_lazy_start(const struct ckpt_lazy_job *job);

/* What the clone runs; 0 or -errno. */
long ckpt_lazy_serve(const struct ckpt_lazy_job *job);

/* What a server would know: a new layout is written from the old one and the journal, and is the
 * valid one. Missing pages in it, or -errno. */
long ckpt_lazy_replay(const struct ckpt_lazy_job *job);

/* XXH3-64 with the default secret of `len` bytes, at least 241. */
uint64_t ckpt_xxh3(const void *data, uint64_t len);
