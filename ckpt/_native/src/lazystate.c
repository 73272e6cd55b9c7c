/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazystate.h"

#include "lazylayout.h"
#include "lazyorder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { OPENED = 0xf0, CLOSED, QUIET, UNDONE, DONE };
enum { ROOM = 64 };

static uint64_t room_of(const struct lazy_state *s)
{
        return s->job->journal_len / sizeof(struct uffd_msg);
}

static struct uffd_msg *journal(const struct lazy_state *s)
{
        return s->journals[s->job->told->turn & 1];
}

long lazy_state_add(struct lazy_state *s, struct lazy_space space)
{
        if (s->nr_spaces == s->room) {
                uint64_t room = s->room ? 2 * s->room : 16;
                struct lazy_space *at = realloc(s->spaces, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                s->spaces = at;
                s->room = room;
        }
        s->spaces[s->nr_spaces++] = space;
        s->nr_young += (space.flags & CKPT_LAZY_YOUNG) != 0;
        return 0;
}

/* Space number `parent` has forked; its child's userfaultfd is `uffd`. */
static long born(struct lazy_state *s, uint64_t parent, int uffd)
{
        struct lazy_space child = {.uffd = uffd, .pidfd = -1, .parent = parent};
        const struct lazy_space *of = &s->spaces[parent];
        struct lazy_runs runs = {0};
        long err = lazy_space_missing(of, &runs);

        child.flags = of->flags | CKPT_LAZY_BORN;
        child.flags |= of->flags & CKPT_LAZY_SHARES ? 0 : CKPT_LAZY_YOUNG;
        if (!err)
                err = lazy_space_make(&child, runs.at, runs.nr);
        free(runs.at);
        return err ? err : lazy_state_add(s, child);
}

static int is_young_child(const struct lazy_state *s, uint64_t child, uint64_t parent)
{
        const struct lazy_space *of = &s->spaces[child];

        return of->uffd >= 0 && of->flags & CKPT_LAZY_YOUNG && of->parent == parent;
}

static long move(struct lazy_space *of, const struct uffd_msg *message)
{
        return lazy_space_move(of, message->arg.remap.from, message->arg.remap.to,
                               message->arg.remap.len);
}

static long moved(struct lazy_state *s, uint64_t space, const struct uffd_msg *message)
{
        struct lazy_space *of = &s->spaces[space];
        long err = 0;

        s->last = *message;
        if (space < s->job->nr_moved)
                s->job->moved[space] = 1;
        if (of->flags & CKPT_LAZY_SHARES)
                of->flags |= CKPT_LAZY_DOUBTED;
        else
                err = lazy_change_note(of, message->arg.remap.from, message->arg.remap.to,
                                       message->arg.remap.len);
        return err ? err : move(of, message);
}

static long unmapped(struct lazy_state *s, uint64_t space, const struct uffd_msg *message)
{
        struct lazy_space *of = &s->spaces[space];
        uint64_t start = message->arg.remove.start, end = message->arg.remove.end, gone;
        long err = of->flags & CKPT_LAZY_SHARES
                       ? 0
                       : lazy_change_note(of, start, LAZY_NOWHERE, end - start);

        if (err)
                return err;
        gone = lazy_space_drop(of, start, end);
        s->job->told->nr_gone += of->flags & CKPT_LAZY_SHARES ? 0 : gone;
        return 0;
}

/* 0, or -errno where there is no memory for it. */
static long apply(struct lazy_state *s, uint64_t space, const struct uffd_msg *message)
{
        struct lazy_space *of = &s->spaces[space];

        switch (message->event) {
        case UFFD_EVENT_FORK:
                return born(s, space, (int)message->arg.fork.ufd);
        case UFFD_EVENT_REMAP:
                return moved(s, space, message);
        case UFFD_EVENT_UNMAP:
                return unmapped(s, space, message);
        case UFFD_EVENT_REMOVE:
                if (of->flags & CKPT_LAZY_SHARES)
                        return lazy_state_shared(s) ? -ENOTRECOVERABLE : 0;
                s->job->told->nr_gone +=
                    lazy_space_drop(of, message->arg.remove.start, message->arg.remove.end);
                return 0;
        default:
                return 0;
        }
}

int lazy_state_restless(const struct lazy_state *s, uint64_t space)
{
        if (s->spaces[space].uffd < 0)
                return 0;
        if (s->spaces[space].changes)
                return 1;
        for (uint64_t i = s->nr_spaces; s->nr_young && i-- > 0;)
                if (is_young_child(s, i, space))
                        return 1;
        return 0;
}

static void be_quiet(struct lazy_state *s, uint64_t space)
{
        lazy_changes_forget(&s->spaces[space]);
        for (uint64_t i = 0; i < s->nr_spaces; i++)
                if (is_young_child(s, i, space)) {
                        s->spaces[i].flags &= ~(uint32_t)CKPT_LAZY_YOUNG;
                        s->nr_young--;
                }
}

static long space_of(const struct lazy_state *s, int uffd)
{
        for (uint64_t i = s->nr_spaces; i-- > 0;)
                if (s->spaces[i].uffd == uffd)
                        return (long)i;
        return -1;
}

/* A note of ours, of which `about` is the space of the messages before it. */
static long take_note(struct lazy_state *s, const struct uffd_msg *note, uint64_t about)
{
        long other = space_of(s, (int)note->arg.reserved.reserved1);

        switch (note->event) {
        case CLOSED:
                lazy_space_free(&s->spaces[about]);
                s->spaces[about].uffd = -1;
                return 0;
        case QUIET:
                be_quiet(s, about);
                return 0;
        case UNDONE:
                return lazy_change_undo(&s->spaces[s->nr_spaces - 1], &s->spaces[about],
                                        note->arg.reserved.reserved2);
        case DONE:
                return other < 0 ? -EILSEQ : move(&s->spaces[other], &s->last);
        default:
                return 0;
        }
}

static long replay(struct lazy_state *s)
{
        const struct uffd_msg *from = journal(s);
        long space = -1, err = 0;

        for (s->at = 0; !err && s->at < room_of(s) && from[s->at].event; s->at++) {
                const struct uffd_msg *message = &from[s->at];
                uint8_t event = message->event;

                if (event == OPENED || event == CLOSED || event == QUIET)
                        space = space_of(s, (int)message->arg.reserved.reserved1);
                if (space < 0)
                        continue;
                err = event >= OPENED ? take_note(s, message, (uint64_t)space)
                                      : apply(s, (uint64_t)space, message);
        }
        return err;
}

static int is_userfaultfd(int lfd)
{
        static const char wanted[] = "anon_inode:[userfaultfd]";
        char path[32], found[sizeof(wanted)];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", lfd);
        return readlink(path, found, sizeof(found)) == sizeof(wanted) - 1 &&
               !memcmp(found, wanted, sizeof(wanted) - 1);
}

/* Our predecessor may have been killed after it noted that it closes one, and before it did: one
 * that stays open is served by nobody, and holds up whoever touches its memory. By now the number
 * may be that of anything the holder has opened, but of no other userfaultfd: one that is read from
 * another is told in the journal, where no note of ours is behind the last one then. */
static void close_last(const struct lazy_state *s)
{
        const struct uffd_msg *last = s->at ? &journal(s)[s->at - 1] : NULL;

        if (last && last->event == CLOSED && is_userfaultfd((int)last->arg.reserved.reserved1))
                close((int)last->arg.reserved.reserved1);
}

long lazy_state_load(struct lazy_state *s, const struct ckpt_lazy_job *job)
{
        long err;

        *s = (struct lazy_state){.job = job};
        for (unsigned i = 0; i < 2; i++) {
                s->journals[i] = mmap(NULL, job->journal_len, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_POPULATE, job->journals[i], 0);
                if (s->journals[i] == MAP_FAILED)
                        return -errno;
                /* What read(2) has taken must find its place. */
                mlock(s->journals[i], job->journal_len);
        }
        err = lazy_layout_load(s, job->layouts[job->told->turn & 1]);
        if (!err)
                err = replay(s);
        if (!err)
                close_last(s);
        return err;
}

long lazy_state_renew(struct lazy_state *s)
{
        uint64_t turn = !(s->job->told->turn & 1);
        int to = s->job->layouts[turn];
        long err = 0;

        if (ftruncate(to, 0) < 0 || lseek(to, 0, SEEK_SET) < 0)
                return -errno;
        err = lazy_layout_write(s, to);
        if (err)
                return err;
        memset(s->journals[turn], 0, s->job->journal_len);
        __atomic_store_n(&s->job->told->turn, turn, __ATOMIC_SEQ_CST);
        s->at = 0;
        return 0;
}

static void note(struct lazy_state *s, uint8_t event, int uffd, uint64_t value)
{
        struct uffd_msg *at = &journal(s)[s->at];

        if (s->at == room_of(s))
                return;
        s->at++;
        at->arg.reserved.reserved1 = (uint64_t)uffd;
        at->arg.reserved.reserved2 = value;
        __atomic_store_n(&at->event, event, __ATOMIC_SEQ_CST);
}

/* Take the last messages back, the last of them first: what stays is whole at every moment. */
static void rewind_to(struct lazy_state *s, uint64_t at)
{
        while (s->at > at) {
                struct uffd_msg *message = &journal(s)[--s->at];

                __atomic_store_n(&message->event, 0, __ATOMIC_SEQ_CST);
                memset(message, 0, sizeof(*message));
        }
}

/* The last space is a child of space number `parent`: what was told before it was born, but was
 * done after, is undone in it. */
static long order_birth(struct lazy_state *s, uint64_t parent)
{
        struct lazy_space *child = &s->spaces[s->nr_spaces - 1];
        const struct lazy_changes *all = s->spaces[parent].changes;
        uint8_t *before;
        long err = 0;

        if (!all)
                return 0;
        before = calloc(all->nr, 1);
        if (!before)
                return -ENOMEM;
        for (uint64_t nr = all->nr; !err && nr-- > 0;) {
                before[nr] = (uint8_t)lazy_born_before(child, &s->spaces[parent], nr, before);
                if (!before[nr])
                        continue;
                err = lazy_change_undo(child, &s->spaces[parent], nr);
                note(s, UNDONE, child->uffd, nr);
        }
        free(before);
        return err;
}

/* Space number `parent` has moved what `change` tells: so have those of its children that were born
 * after that. */
static long order_move(struct lazy_state *s, uint64_t parent, const struct lazy_change *change)
{
        long err = 0;

        for (uint64_t i = 0; !err && s->nr_young && i < s->nr_spaces; i++) {
                if (!is_young_child(s, i, parent) || !lazy_born_after(&s->spaces[i], change))
                        continue;
                err = move(&s->spaces[i], &s->last);
                note(s, DONE, s->spaces[i].uffd, 0);
        }
        return err;
}

static uint64_t nr_changes(const struct lazy_space *space)
{
        return space->changes ? space->changes->nr : 0;
}

/* Act on an event that was just read. */
static long happened(struct lazy_state *s, uint64_t space, const struct uffd_msg *message)
{
        uint64_t known = nr_changes(&s->spaces[space]);
        long err = apply(s, space, message);

        if (err || s->spaces[space].flags & CKPT_LAZY_SHARES)
                return err;
        if (message->event == UFFD_EVENT_FORK)
                return order_birth(s, space);
        if (message->event == UFFD_EVENT_REMAP && nr_changes(&s->spaces[space]) > known)
                return order_move(s, space, &s->spaces[space].changes->at[known]);
        return 0;
}

long lazy_state_read(struct lazy_state *s, uint64_t space, struct uffd_msg *fault)
{
        uint64_t began;
        ssize_t got;

        if (room_of(s) - s->at < ROOM) {
                long err = lazy_state_renew(s);

                if (err)
                        return err;
        }
        began = s->at;
        note(s, OPENED, s->spaces[space].uffd, 0);
        got = read(s->spaces[space].uffd, &journal(s)[s->at], sizeof(*fault));
        if (got < 0) {
                long err = errno == EAGAIN || errno == EINTR ? 0 : -errno;

                rewind_to(s, began);
                return err;
        }
        *fault = journal(s)[s->at++];
        if (fault->event != UFFD_EVENT_PAGEFAULT)
                return happened(s, space, fault);
        rewind_to(s, began);
        return 1;
}

void lazy_state_quiet(struct lazy_state *s, uint64_t space)
{
        note(s, QUIET, s->spaces[space].uffd, 0); /* without it, a successor waits once more */
        be_quiet(s, space);
}

void lazy_state_close(struct lazy_state *s, uint64_t space)
{
        int uffd = s->spaces[space].uffd;

        if (room_of(s) - s->at < 2 && lazy_state_renew(s))
                return;
        note(s, CLOSED, uffd, 0);
        lazy_space_free(&s->spaces[space]);
        s->spaces[space].uffd = -1;
        ckpt_fault_point();
        close(uffd);
}

uint64_t lazy_state_shared(const struct lazy_state *s)
{
        uint64_t left = 0;

        for (uint64_t i = 0; i < s->nr_spaces; i++)
                left += s->spaces[i].flags & CKPT_LAZY_OBJECT ? s->spaces[i].nr_left : 0;
        return left;
}

uint64_t lazy_state_left(const struct lazy_state *s)
{
        uint64_t left = 0;

        for (uint64_t i = 0; i < s->nr_spaces; i++)
                left += s->spaces[i].flags & CKPT_LAZY_SHARES ? 0 : s->spaces[i].nr_left;
        return left;
}
