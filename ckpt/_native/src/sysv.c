/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#define UNCHANGED   ((uid_t) - 1)
#define PERMISSIONS 0777

long ckpt_shm_look(int id, struct ckpt_shm *segment)
{
        struct shmid_ds ds;

        if (shmctl(id, IPC_STAT, &ds) < 0)
                return -errno;
        *segment = (struct ckpt_shm){
            .key = (uint32_t)ds.shm_perm.__key,
            .uid = ds.shm_perm.uid,
            .gid = ds.shm_perm.gid,
            .cuid = ds.shm_perm.cuid,
            .cgid = ds.shm_perm.cgid,
            .mode = ds.shm_perm.mode,
            .size = ds.shm_segsz,
            .nr_attached = ds.shm_nattch,
            .creator = ds.shm_cpid,
        };
        return 0;
}

long ckpt_shm_find(uint32_t key)
{
        return ckpt_result(shmget((key_t)key, 0, 0));
}

long ckpt_ask_for_id(const char *file, int id)
{
        char text[16];
        int length = snprintf(text, sizeof(text), "%d", id);
        int lfd = open(file, O_WRONLY | O_CLOEXEC);
        ssize_t done;
        long error;

        if (lfd < 0)
                return -errno;
        done = write(lfd, text, (size_t)length);
        error = done < 0 ? -errno : 0;
        close(lfd);
        return error;
}

/* Raw calls: those of libc would change every thread of this process. */
static long become(uid_t uid, gid_t gid)
{
        if (uid && syscall(__NR_setresgid, UNCHANGED, gid, UNCHANGED) < 0)
                return -errno;
        if (syscall(__NR_setresuid, UNCHANGED, uid, UNCHANGED) < 0)
                return -errno;
        if (!uid && syscall(__NR_setresgid, UNCHANGED, gid, UNCHANGED) < 0)
                return -errno;
        return 0;
}

long ckpt_creator_become(struct ckpt_creator *creator)
{
        creator->own_uid = geteuid();
        creator->own_gid = getegid();
        creator->other = creator->uid != creator->own_uid || creator->gid != creator->own_gid;
        return creator->other ? become(creator->uid, creator->gid) : 0;
}

long ckpt_creator_leave(const struct ckpt_creator *creator)
{
        return creator->other ? become(creator->own_uid, creator->own_gid) : 0;
}

static long make_as_creator(const struct ckpt_shm *wanted)
{
        struct ckpt_creator creator = {.uid = wanted->cuid, .gid = wanted->cgid};
        int flags = IPC_CREAT | IPC_EXCL | (int)(wanted->mode & PERMISSIONS) | (int)wanted->huge;
        long id = ckpt_creator_become(&creator);
        long back;

        if (id == 0)
                id = ckpt_result(shmget((key_t)wanted->key, wanted->size, flags));
        back = ckpt_creator_leave(&creator);
        return id >= 0 && back < 0 ? back : id;
}

long ckpt_shm_make(int id, const struct ckpt_shm *wanted)
{
        long got = ckpt_ask_for_id("/proc/sys/kernel/shm_next_id", id);
        long error;

        if (got < 0)
                return got;
        got = make_as_creator(wanted);
        if (got < 0)
                return got;
        error = got == id ? ckpt_shm_set(id, wanted) : -EEXIST;
        if (error < 0)
                shmctl((int)got, IPC_RMID, NULL);
        return error;
}

long ckpt_shm_set(int id, const struct ckpt_shm *wanted)
{
        struct shmid_ds ds = {
            .shm_perm = {.uid = wanted->uid,
                         .gid = wanted->gid,
                         .mode = (unsigned short)(wanted->mode & PERMISSIONS)},
        };

        if (shmctl(id, IPC_SET, &ds) < 0)
                return -errno;
        if (wanted->mode & CKPT_SHM_LOCKED && shmctl(id, SHM_LOCK, NULL) < 0)
                return -errno;
        return 0;
}

long ckpt_shm_remove(int id)
{
        return ckpt_result(shmctl(id, IPC_RMID, NULL));
}
