"""Probes of what descriptors of each kind need.

Source: kcmp(2), pipe(7), memfd_create(2), vmsplice(2), timerfd_create(2), openat2(2), tun's
ioctls in uapi/linux/if_tun.h, proc_pid_fdinfo(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.kerndat.probe import Finding, Need, limited, missing, ok, probe
from ckpt.kerndat.trial import address, call, expect, pages
from ckpt.procfs.fdinfo import parse_fdinfo

if TYPE_CHECKING:
    from ckpt.procfs.fdinfo import FdInfo

_KCMP_FILE, _KCMP_EPOLL_TFD = 0, 7
_MFD_HUGETLB = 4
_TFD_IOC_SET_TICKS = 0x40085400
_TUNGETFEATURES = 0x800454CF
_SIOCGSKNS = 0x894C
_RESOLVE_NO_SYMLINKS = 4
_PBUF_STATUS = 26
_AT_FDCWD = -100


@probe("kcmp", Need.HOST, "telling shared descriptors from equal ones", "no dump", criu=("kcmp",))
def kcmp() -> None:
    read, write = os.pipe()
    twin = os.dup(read)
    try:
        me = os.getpid()
        expect(call("kcmp", me, me, _KCMP_FILE, read, twin) == 0, "a duplicate is not equal")
        expect(call("kcmp", me, me, _KCMP_FILE, read, write) != 0, "two ends of a pipe are equal")
    finally:
        for fd in (read, write, twin):
            os.close(fd)


@probe("io_uring", Need.TREE, "idle rings of io_uring", "they are refused")
def io_uring() -> None:
    """What is registered with a ring has to be asked for as well, group by group of buffers."""
    asked = bytearray(120)
    fd = call("io_uring_setup", 1, address(asked))
    try:
        status = bytearray(40)
        call("io_uring_register", fd, _PBUF_STATUS, address(status), 1)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    finally:
        os.close(fd)


@probe(
    "kcmp_epoll",
    Need.LATER,
    "what an epoll descriptor watches",
    "epoll is refused where descriptors were duplicated",
    criu=("kcmp_epoll",),
)
def kcmp_epoll() -> None:
    import select

    read, write = os.pipe()
    try:
        with select.epoll() as epoll:
            epoll.register(read, select.EPOLLIN)
            slot = bytearray(struct.pack("III", epoll.fileno(), read, 0))
            me = os.getpid()
            equal = call("kcmp", me, me, _KCMP_EPOLL_TFD, read, address(slot)) == 0
        expect(equal, "the watched descriptor is not found")
    finally:
        os.close(read)
        os.close(write)


def _fdinfo(fd: int) -> FdInfo:
    return parse_fdinfo(Path(f"/proc/thread-self/fdinfo/{fd}").read_bytes())


@probe("mnt_id", Need.HOST, "the mount that a file was opened on", "no dump", criu=("mnt_id",))
def mnt_id() -> None:
    fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        expect(_fdinfo(fd).mnt_id >= 0, "no mount id")
    finally:
        os.close(fd)


@probe(
    "fdinfo_lock",
    Need.TREE,
    "the file locks that a descriptor holds",
    "trees with file locks can't be dumped",
    criu=("fdinfo_lock",),
)
def fdinfo_lock() -> None:
    fd = os.memfd_create("ckpt-probe")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        expect(len(_fdinfo(fd).locks) == 1, "the lock is not shown")
    finally:
        os.close(fd)


@probe("memfd", Need.HOST, "memory files, and passing pages on", "no restore of shared memory")
def memfd() -> None:
    fd = os.memfd_create("ckpt-probe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, 4096)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        expect(fcntl.fcntl(fd, fcntl.F_GET_SEALS) == fcntl.F_SEAL_SHRINK, "seals are not kept")
    finally:
        os.close(fd)


@probe(
    "memfd_hugetlb",
    Need.LATER,
    "memory files of huge pages",
    "they are refused",
    criu=("memfd_hugetlb",),
)
def memfd_hugetlb() -> None:
    os.close(os.memfd_create("ckpt-probe", os.MFD_CLOEXEC | _MFD_HUGETLB))


@probe(
    "vmsplice",
    Need.BETTER,
    "moving pages out of the target without copying",
    "pages are copied twice, the frozen time grows",
)
def vmsplice() -> None:
    read, write = os.pipe()
    try:
        with pages(1) as (area, addr):
            area[:4] = b"ckpt"
            iovec = bytearray(struct.pack("QQ", addr, 4))
            expect(call("vmsplice", write, address(iovec), 1, 0) == 4, "short")
            expect(os.read(read, 4) == b"ckpt", "wrong bytes")
    finally:
        os.close(read)
        os.close(write)


@probe("pipe_size", Need.BETTER, "pipes of a mebibyte for moving pages", "smaller ones, slower")
def pipe_size() -> Finding:
    read, write = os.pipe()
    try:
        size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
    finally:
        os.close(read)
        os.close(write)
    return ok(f"{size} bytes") if size >= 1 << 20 else limited(f"{size} bytes")


@probe(
    "timerfd",
    Need.LATER,
    "timer descriptors with the ticks that nobody has read yet",
    "timer descriptors are refused",
    criu=("timerfd",),
)
def timerfd() -> None:
    fd = call("timerfd_create", 1, os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        expect(_fdinfo(fd).values("clockid") == ["1"], "fdinfo does not show the clock")
        fcntl.ioctl(fd, _TFD_IOC_SET_TICKS, struct.pack("=Q", 3))
        expect(os.read(fd, 8) == struct.pack("=Q", 3), "other ticks than were set")
    finally:
        os.close(fd)


@probe("so_peek_off", Need.LATER, "reading queues of sockets in pieces", "sockets are refused")
def so_peek_off() -> None:
    import socket

    left, right = socket.socketpair()
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, 42, 1)
        right.send(b"ab")
        expect(left.recv(1, socket.MSG_PEEK) == b"b", "the offset is not heeded")


def _tun() -> int:
    return os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)


@probe("tun", Need.LATER, "tun and tap devices", "they are refused", criu=("tun",))
def tun() -> None:
    fd = _tun()
    try:
        fcntl.ioctl(fd, _TUNGETFEATURES, bytearray(4), True)
    finally:
        os.close(fd)


@probe("tun_ns", Need.LATER, "the network of a tun device", "they are refused", criu=("tun_ns",))
def tun_ns() -> None:
    fd = _tun()
    try:
        os.close(fcntl.ioctl(fd, _SIOCGSKNS))
    finally:
        os.close(fd)


@probe(
    "openat2",
    Need.BETTER,
    "opening files of an untrusted tree without following links out of it",
    "paths are opened as they stand",
    criu=("openat2",),
)
def openat2() -> None:
    path = bytearray(b".\0")
    how = bytearray(struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS))
    os.close(call("openat2", _AT_FDCWD, address(path), address(how), len(how)))


@probe(
    "autofs",
    Need.LATER,
    "mounts that are made on access",
    "mount namespaces with them are refused",
    criu=("autofs",),
)
def autofs() -> Finding:
    return missing("ckpt does not restore mount namespaces yet")


@probe(
    "apparmor_stacking",
    Need.LATER,
    "AppArmor profiles inside of profiles",
    "confined tasks are refused",
    criu=("apparmor_stacking",),
)
def apparmor_stacking() -> None:
    path = Path("/sys/kernel/security/apparmor/features/domain/stack")
    if path.read_bytes().strip() != b"yes":
        raise OSError(errno.EOPNOTSUPP, "AppArmor does not stack")
