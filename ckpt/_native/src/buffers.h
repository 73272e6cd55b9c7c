/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Buffers between who copies pages and who writes them, at most so many bytes. Not for Python.
 *
 * Whoever copies for a thread that waits may use all of them, and waits itself for the writer when
 * there is none; whoever copies ahead of need may use half.
 */
#ifndef CKPT_BUFFERS_H
#define CKPT_BUFFERS_H

#include "native.h"

#include <pthread.h>

#define BUFFER_SIZE (256 * 1024)

struct buffer {
        struct buffer *next;
        int file;
        uint64_t offset;
        uint64_t len;
        char *data;
};

struct buffers {
        pthread_mutex_t lock;
        pthread_cond_t filled;
        pthread_cond_t emptied;
        struct buffer *free;
        struct buffer *first; /* to be written, in this order */
        struct buffer **last;
        uint64_t room;
        uint64_t allocated;
        uint64_t used;
        uint64_t peak;
        uint64_t writing;
        int ended;
        int error;
        int wake; /* an eventfd: nothing is left to be written */
};

void buffers_init(struct buffers *all, uint64_t room, int wake);
void buffers_destroy(struct buffers *all);

/* An empty buffer, for a thread that waits: all of the room is there for it. Else wait until half
 * of it is free. NULL when writing has failed or ended, or there is no memory at all. */
struct buffer *buffers_take(struct buffers *all, int urgent);

/* Back unused, or to be written. */
void buffers_return(struct buffers *all, struct buffer *buffer);
void buffers_submit(struct buffers *all, struct buffer *buffer);

/* The writer: until buffers_end() was called. After an error nothing more is written. */
void buffers_write(struct buffers *all);
void buffers_end(struct buffers *all);

/* 1: all that was submitted is written; 0: not yet; or -errno. */
long buffers_written(struct buffers *all);

#endif
