/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the controller and the parasite say to one another. Read by the C compiler and by
 * ffi.cdef(): fixed-width structs, enums and plain integer defines only, no #if, no macros with
 * arguments. The guard and the static asserts live in wire_check.h.
 *
 * A session lives in one window of the target's address space, chosen by the controller:
 *
 *     window                 code_len          RX   the blob, struct ckpt_blob_header first
 *     window + code_len      len - code_len    RW   the data area: struct ckpt_session first,
 *                                                   the stack, then what batches use
 */

#define CKPT_WIRE_VERSION 1
#define CKPT_BLOB_MAGIC   0x626f6c62747063
#define CKPT_BLOB_MAX     65536
#define CKPT_STACK_SIZE   4096
#define CKPT_MAX_FDS      253
#define CKPT_NR_ARGS      6

struct ckpt_blob_header {
        uint64_t magic;
        uint32_t version;
        uint32_t size;
        uint64_t wire_hash;
        uint32_t entry;   /* offset: struct ckpt_session * in the first argument register */
        uint32_t syscall; /* offset of a bare system call instruction, for the tracer */
        uint32_t park;    /* offset of an endless wait, for the tracer */
        uint32_t stub;    /* offset and length of the code that is entered first in a live target */
        uint32_t stub_len;
        uint32_t stub_return; /* offset where that stub takes over again after the session */
};

/* What the blob does when its controller is gone. */
enum ckpt_on_eof {
        CKPT_EOF_RETURN = 0, /* go back through leave_to: a live target cures itself */
        CKPT_EOF_EXIT = 1,   /* a half-built task ends itself */
};

struct ckpt_session {
        uint64_t window;
        uint64_t len;
        uint64_t data; /* address of this struct's area: base of CKPT_ARG_DATA */
        uint64_t stack_top;
        uint64_t leave_to; /* jumped to after the session, with this struct's address as argument;
                              what stands there closes the socket, as the last it does */
        uint64_t batch;    /* address of a batch to run before serving, or 0 */
        int32_t sock;      /* command socket, or -1: run the batch, then park */
        uint32_t on_eof;
        int32_t lent_fd; /* a descriptor of the controller's to close when leaving, or -1 */
        uint32_t told;   /* set when CKPT_CMD_LEAVE came: the controller is alive */
};

/* How an argument's value comes about. */
enum ckpt_arg_kind {
        CKPT_ARG_VALUE = 0,  /* as it stands */
        CKPT_ARG_DATA = 1,   /* + address of the data area */
        CKPT_ARG_RESULT = 2, /* result of the entry with this index */
        CKPT_ARG_LOAD32 = 3, /* the int32_t at this offset of the data area */
        CKPT_ARG_LOAD64 = 4, /* the uint64_t at this offset of the data area */
};

enum ckpt_op {
        CKPT_OP_CALL = 0,     /* one system call */
        CKPT_OP_CALL_ALL = 1, /* a call on an iovec (arg 1, count in arg 2), repeated and the iovec
                                 advanced until all of it is done; result: bytes */
        CKPT_OP_CLONE = 2,    /* clone3(arg 0, arg 1); the child starts with the session at arg 2,
                                 copied to arg 3 first if that is not 0 */
        CKPT_OP_COPY = 3,     /* copy arg 2 bytes to arg 0 from arg 1 */
        CKPT_OP_WAIT = 4,     /* sleep until the uint32_t at arg 0 is at least arg 1 */
        CKPT_OP_POST = 5,     /* add arg 1 to the uint32_t at arg 0 and wake its sleepers */
        CKPT_OP_DRAIN = 6,    /* repeat the call while it succeeds; result: how often it did */
};

enum ckpt_entry_flags {
        CKPT_ANY = 1,    /* go on whatever the result is */
        CKPT_EXACT = 2,  /* the result must be `want` */
        CKPT_OFFSET = 4, /* CKPT_OP_CALL_ALL: arg 3 is a file position, advance it too */
};

struct ckpt_entry {
        uint16_t op;
        uint16_t flags;
        uint32_t nr;
        uint64_t arg[6];
        uint8_t kind[6];
        uint16_t also; /* an errno that counts as success, or 0 */
        int64_t want;
        int64_t result; /* as the kernel returns it: -errno on failure */
};

/* The outcome of a batch: nr_done == nr when all of it ran, else the index that stopped it. */
struct ckpt_batch {
        uint32_t nr;
        uint32_t nr_done;
        uint32_t reserved;
        uint32_t done; /* set to 1 last; sleepers on it are woken */
        /* struct ckpt_entry entry[nr] follows */
};

enum ckpt_command_what {
        CKPT_CMD_HELLO = 1, /* answered with version, wire hash and window */
        CKPT_CMD_RUN = 2,   /* run the batch at `arg` */
        CKPT_CMD_LEAVE = 3, /* go back through leave_to, with the socket still open, or close it and
                               park without one */
};

struct ckpt_command {
        uint32_t what;
        uint32_t seq;
        uint64_t arg;
};

struct ckpt_reply {
        uint32_t seq;
        uint32_t nr_done;
        int64_t result; /* of the entry that stopped the batch, or of the last one */
};

struct ckpt_hello {
        uint64_t magic;
        uint64_t wire_hash;
        uint32_t version;
        int32_t pid;
        uint64_t window;
};

/* First message to a seed: where its window shall be. It answers with a ckpt_reply, the controller
 * writes code and session into the window and sends CKPT_CMD_RUN; the seed seals the code and
 * enters it. */
struct ckpt_seed_window {
        uint64_t window;
        uint64_t len;
        uint64_t code_len;
};
#define CKPT_SEED_SOCK 3
