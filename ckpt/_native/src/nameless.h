/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Files and directories that have a path but no name: made, opened and unlinked again.
 */

struct ckpt_nameless {
        int32_t dir;  /* where the name stands for a moment */
        int32_t from; /* the file to link there (a descriptor, O_PATH will do), or -1 to make one */
        uint32_t mode; /* type and permission bits of what is made */
        uint32_t spare;
        uint64_t rdev; /* of a device */
        const char *name;
};

/* An O_PATH descriptor of it, close-on-exec, or -EEXIST where the name is taken. A child that the
 * end of this process does not touch makes the calls, so that no name is left behind. What it leads
 * to by /proc/self/fd has the path `name` and is deleted. */
long ckpt_nameless(const struct ckpt_nameless *wanted);
