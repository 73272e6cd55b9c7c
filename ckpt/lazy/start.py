"""A new holder: a process of its own, of no terminal and nobody's child.

It is forked, not executed: a restore is not to wait for a second start of Python. So it must be
made before this process has a second thread. Its own number and that of its session must be none
that the tree is to get.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, ImageError, KernelError
from ckpt.images.reader import ImageSet
from ckpt.lazy.holder import Holder as Process
from ckpt.mem.missing.client import SOCKET, Holder, connect

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from ckpt.report import Report

_READ_ONLY = (errno.EACCES, errno.EROFS, errno.EPERM)


def start_holder(
    folder: Path, report: Report, *, need_name: bool, avoid: Container[int] = ()
) -> Holder:
    """A connection to a new holder whose socket is in `folder`, and whose numbers are none of
    `avoid`. Unless `need_name`, it does without one where it can't be made, and tells so: nobody
    else can give it pages then. It is not waited for: that it can't be started is known by the
    first answer that is missing.

    Raises CkptError where there is a holder already, and a name is needed.
    """
    listening = _listen(folder, report, need_name=need_name)
    lfd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        pid = _fork(avoid)
        if pid == 0:
            _become(theirs, listening, lfd, avoid)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if listening is not None:
            listening.close()
        os.close(lfd)
    return Holder(ours, pid)


def numbers_of(images_dir: Path) -> frozenset[int]:
    """The numbers of tasks, threads, groups and sessions of the set in that folder; none where it
    can't be read, which is for the restore to tell."""
    with suppress(ImageError, OSError), ImageSet(images_dir) as images:
        entries = images.read("pstree")
        return frozenset(n for e in entries for n in (e.pid, e.pgid, e.sid, *e.threads))
    return frozenset()


def _fork(avoid: Container[int]) -> int:
    """fork(2) again and again until the child has another number."""
    while True:
        pid = os.fork()
        if pid == 0:
            if os.getpid() in avoid:
                os._exit(0)
            return 0
        if pid not in avoid:
            return pid
        os.waitpid(pid, 0)


def _listen(folder: Path, report: Report, *, need_name: bool) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX)
    lfd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    own = f"{SOCKET}.{os.getpid()}"
    try:
        os.fchmod(sock.fileno(), 0o600)  # bind gives the name the socket's own mode
        sock.bind(f"/proc/self/fd/{lfd}/{own}")
        try:
            sock.listen(16)
            _take_name(folder, lfd, own)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(own, dir_fd=lfd)
    except (OSError, CkptError) as error:
        sock.close()
        if isinstance(error, OSError) and error.errno not in _READ_ONLY:
            raise
        if need_name:
            why = str(error) if isinstance(error, CkptError) else error.strerror or ""
            raise KernelError("can't be made", resource=f"{folder}/{SOCKET}", why=why) from error
        report.warn(f"{folder}/{SOCKET} can't be made: lost pages could not be given anew: {error}")
        return None
    finally:
        os.close(lfd)
    return sock


def _take_name(folder: Path, lfd: int, own: str) -> None:
    """Give our socket the name: the place of one where nobody listens any more is taken."""
    try:
        os.link(own, SOCKET, src_dir_fd=lfd, dst_dir_fd=lfd)
    except FileExistsError:
        there = connect(folder)
        if there is not None:
            there.close()
            raise CkptError("another lazy restore uses this folder") from None
        os.rename(own, SOCKET, src_dir_fd=lfd, dst_dir_fd=lfd)


def _become(
    first: socket.socket, listening: socket.socket | None, folder: int, avoid: Container[int]
) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        if _fork(avoid):
            os._exit(0)
        kept = {first.fileno(), folder}
        if listening is not None:
            kept.add(listening.fileno())
        _leave_behind(kept)

        def forget_name() -> None:
            if listening is not None:
                with suppress(FileNotFoundError):
                    os.unlink(SOCKET, dir_fd=folder)

        Process(listening, first, forget_name).run()
        code = 0
    except BaseException as error:
        import syslog

        syslog.syslog(syslog.LOG_ERR, f"ckpt: the holder of missing pages ends: {error!r}")
    finally:
        os._exit(code)


def _leave_behind(kept: Iterable[int]) -> None:
    """Everything that belongs to who has started us."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    null = os.open(os.devnull, os.O_RDWR)
    for lfd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if lfd not in kept and lfd != null:
            with suppress(OSError):
                os.close(lfd)
    for lfd in range(3):
        os.dup2(null, lfd)
    if null > 2:
        os.close(null)
    os.chdir("/")
    Path("/proc/self/comm").write_text("ckpt-lazy-hold")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
