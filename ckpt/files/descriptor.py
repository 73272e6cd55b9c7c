"""One descriptor of a target, as it is seen from outside.

Seen through /proc/PID/fd (stat and readlink, nothing is opened), /proc/PID/fdinfo, and with a pidfd
through a duplicate that lives only as long as it is asked (F_GETSIG, F_GETOWN_EX). All of a table
is looked at by one call into C: 5 us a descriptor, which counts since the target stands still.

Not guaranteed: /proc holds a file while it tells of it. What a running task closes in the very
microsecond in which its fdinfo is read is closed a moment later, as beside lsof(8): a lease that it
had opens up that much later, too.

A named tuple and no record for the same reason. Paths are those of our own root directory: what
lies outside of it reads "(unreachable)/...".

Source: proc_pid_fd(5), proc_pid_fdinfo(5), pidfd_getfd(2), fcntl(2).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from ckpt._native import check, ffi, lib
from ckpt.errors import KernelError, TargetError
from ckpt.procfs.fdinfo import parse_fdinfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.procfs.locks import Lock
    from ckpt.procfs.reader import ProcDir

_RECORD = struct.Struct("=4QqQ6I5i7I")
_DELETED = " (deleted)"
_OVERLAY = 0x794C7630
"""f_type of overlayfs."""


class Descriptor(NamedTuple):
    """`flags` are the description's (F_GETFL), without O_CLOEXEC, which is `cloexec`.

    `link`: what readlink says. `named`: the link is a path, and lstat of it finds this very file.
    `fs_type`: f_type of statfs(2) where `link` is a path, else 0. `size`: st_size. `info`: the text
    of fdinfo where it has more than the usual lines.
    """

    pid: int
    fd: int
    link: str
    flags: int
    cloexec: bool
    pos: int
    mode: int
    dev: int
    ino: int
    rdev: int
    size: int
    nlink: int
    uid: int
    gid: int
    mnt_id: int
    fs_type: int
    named: bool
    signum: int
    owner: int
    owner_type: int
    info: bytes
    owner_uid: int = 0
    owner_euid: int = 0

    def __str__(self) -> str:
        return f"descriptor {self.fd} ({self.link})"

    @property
    def format(self) -> int:
        """S_IFREG, S_IFDIR, ..."""
        return stat.S_IFMT(self.mode)

    @property
    def deleted(self) -> bool:
        """Has a path that leads to it no more: removed, renamed over, or hidden by a mount."""
        return self.link.startswith("/") and not self.named

    @property
    def nr_names(self) -> int:
        """How many names lead to it. overlayfs tells the number of its layer below, from where it
        takes no name away."""
        lost = self.fs_type == _OVERLAY and self.deleted and self.nlink == 1
        return 0 if lost else self.nlink

    @property
    def path(self) -> str:
        """The link without the mark of a deleted file."""
        return self.link if self.named else self.link.removesuffix(_DELETED)

    @property
    def accmode(self) -> int:
        return self.flags & os.O_ACCMODE

    @property
    def locks(self) -> tuple[Lock, ...]:
        """Locks and leases on this description that this process holds."""
        return parse_fdinfo(self.info).locks if b"lock:" in self.info else ()


def proto_name(d: Descriptor) -> bytes:
    """Told by an extended attribute of sockfs, for which nothing is opened; empty for no socket."""
    if d.format != stat.S_IFSOCK or d.flags & os.O_PATH:
        return b""
    try:
        name = os.getxattr(f"/proc/{d.pid}/fd/{d.fd}", "system.sockprotoname")
    except OSError:
        return b""
    return name.rstrip(b"\0")


def look(proc: ProcDir, pidfd: int | None, fds: Sequence[int]) -> list[Descriptor]:
    """Descriptors `fds` of one process. Without `pidfd`, owner and signal stay 0.

    Without a pidfd the target may run, and what it closes meanwhile is left out. With one it has to
    stand still, and a descriptor that is not there raises TargetError.
    """
    found = ffi.new("struct ckpt_descriptor[]", max(len(fds), 1))
    text = ffi.new("char **")
    numbers = ffi.new("int32_t[]", list(fds))
    used = check(
        lib.ckpt_look_descriptors(
            proc.fileno(), -1 if pidfd is None else pidfd, numbers, len(fds), found, text
        ),
        f"/proc/{proc.pid}/fd",
    )
    try:
        words = bytes(ffi.buffer(text[0], used)) if used else b""
    finally:
        lib.ckpt_free(text[0])
    records = ffi.buffer(found, _RECORD.size * len(fds))
    seen: list[Descriptor] = []
    for record in _RECORD.iter_unpack(records):
        if record[13]:
            _refuse_error(proc.pid, record[6], -record[13], standing=pidfd is not None)
            continue
        seen.append(_descriptor(proc.pid, record, words))
    return seen


def look_at_all(proc: ProcDir, pidfd: int | None) -> list[Descriptor]:
    """Every descriptor of the process, ascending; see `look`."""
    return look(proc, pidfd, proc.numbers("fd"))


def still_there(proc: ProcDir, d: Descriptor) -> bool:
    """Whether the number still stands for the file that was seen behind it; the target may run."""
    return [(n.dev, n.ino) for n in look(proc, None, [d.fd])] == [(d.dev, d.ino)]


def _descriptor(pid: int, record: tuple[int, ...], words: bytes) -> Descriptor:
    dev, ino, rdev, size, pos, fs_type, fd, mode, nlink, uid, gid, flags, mnt_id = record[:13]
    signum, owner, named, owner_type, uid_of_owner, euid_of_owner, *places = record[14:]
    link_at, link_len, info_at, info_len = places
    return Descriptor(
        pid,
        fd,
        os.fsdecode(words[link_at : link_at + link_len]),
        flags & ~os.O_CLOEXEC,
        bool(flags & os.O_CLOEXEC),
        pos,
        mode,
        dev,
        ino,
        rdev,
        size,
        nlink,
        uid,
        gid,
        mnt_id,
        fs_type,
        bool(named),
        signum,
        owner,
        owner_type,
        words[info_at : info_at + info_len],
        uid_of_owner,
        euid_of_owner,
    )


def _refuse_error(pid: int, fd: int, number: int, *, standing: bool) -> None:
    if number in (errno.ENOENT, errno.EBADF, errno.ESRCH):
        if standing:
            raise TargetError("is gone", pid=pid, resource=f"descriptor {fd}")
        return
    hint = ""
    if number in (errno.EPERM, errno.EACCES):
        hint = "ckpt needs CAP_SYS_PTRACE over it"
    elif number in (errno.EMFILE, errno.ENFILE):
        hint = "ckpt has no descriptor left to duplicate it: raise its limit (ulimit -n)"
    raise KernelError(
        "can't be looked at",
        pid=pid,
        resource=f"descriptor {fd}",
        why=os.strerror(number),
        hint=hint,
    )
