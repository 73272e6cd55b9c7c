/* SPDX-License-Identifier: GPL-2.0-only */
#include "buffers.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

void buffers_init(struct buffers *all, uint64_t room, int wake)
{
        *all = (struct buffers){.room = room, .wake = wake};
        pthread_mutex_init(&all->lock, NULL);
        pthread_cond_init(&all->filled, NULL);
        pthread_cond_init(&all->emptied, NULL);
        all->last = &all->first;
}

static void free_list(struct buffer *list)
{
        while (list) {
                struct buffer *next = list->next;

                munmap(list->data, BUFFER_SIZE);
                free(list);
                list = next;
        }
}

void buffers_destroy(struct buffers *all)
{
        free_list(all->free);
        free_list(all->first);
        pthread_cond_destroy(&all->emptied);
        pthread_cond_destroy(&all->filled);
        pthread_mutex_destroy(&all->lock);
}

static struct buffer *make(struct buffers *all)
{
        struct buffer *made = calloc(1, sizeof(*made));

        if (!made)
                return NULL;
        made->data = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (made->data == MAP_FAILED) {
                free(made);
                return NULL;
        }
        all->allocated += BUFFER_SIZE;
        if (all->allocated > all->peak)
                all->peak = all->allocated;
        return made;
}

/* With the lock: one that is free, or new. */
static struct buffer *find(struct buffers *all)
{
        struct buffer *found = all->free;

        if (found)
                all->free = found->next;
        else if (all->allocated + BUFFER_SIZE <= all->room)
                found = make(all);
        if (found)
                all->used += BUFFER_SIZE;
        return found;
}

struct buffer *buffers_take(struct buffers *all, int urgent)
{
        uint64_t most = urgent ? all->room : all->room / 2;
        struct buffer *found = NULL;

        pthread_mutex_lock(&all->lock);
        while (!found && !all->error && !all->ended) {
                if (all->used + BUFFER_SIZE <= most)
                        found = find(all);
                if (found || !all->used)
                        break;
                pthread_cond_wait(&all->emptied, &all->lock);
        }
        pthread_mutex_unlock(&all->lock);
        return found;
}

/* With the lock. */
static void put_back(struct buffers *all, struct buffer *buffer)
{
        buffer->next = all->free;
        all->free = buffer;
        all->used -= BUFFER_SIZE;
        pthread_cond_broadcast(&all->emptied);
        if (!all->first && !all->writing)
                eventfd_write(all->wake, 1);
}

void buffers_return(struct buffers *all, struct buffer *buffer)
{
        pthread_mutex_lock(&all->lock);
        put_back(all, buffer);
        pthread_mutex_unlock(&all->lock);
}

void buffers_submit(struct buffers *all, struct buffer *buffer)
{
        buffer->next = NULL;
        pthread_mutex_lock(&all->lock);
        *all->last = buffer;
        all->last = &buffer->next;
        pthread_cond_signal(&all->filled);
        pthread_mutex_unlock(&all->lock);
}

static int write_one(const struct buffer *buffer)
{
        uint64_t done = 0;

        while (done < buffer->len) {
                ssize_t n = pwrite(buffer->file, buffer->data + done, buffer->len - done,
                                   (off_t)(buffer->offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n ? -errno : -EIO;
                done += (uint64_t)n;
        }
        return 0;
}

void buffers_write(struct buffers *all)
{
        pthread_mutex_lock(&all->lock);
        for (;;) {
                struct buffer *one = all->first;
                int error = 0;

                if (!one && all->ended)
                        break;
                if (!one) {
                        pthread_cond_wait(&all->filled, &all->lock);
                        continue;
                }
                all->first = one->next;
                if (!all->first)
                        all->last = &all->first;
                all->writing++;
                if (!all->error) {
                        pthread_mutex_unlock(&all->lock);
                        error = write_one(one);
                        pthread_mutex_lock(&all->lock);
                }
                if (error)
                        all->error = error;
                all->writing--;
                put_back(all, one);
        }
        pthread_mutex_unlock(&all->lock);
}

void buffers_end(struct buffers *all)
{
        pthread_mutex_lock(&all->lock);
        all->ended = 1;
        pthread_cond_broadcast(&all->filled);
        pthread_cond_broadcast(&all->emptied);
        pthread_mutex_unlock(&all->lock);
}

long buffers_written(struct buffers *all)
{
        long result;

        pthread_mutex_lock(&all->lock);
        result = all->error ? all->error : !all->first && !all->writing;
        pthread_mutex_unlock(&all->lock);
        return result;
}
