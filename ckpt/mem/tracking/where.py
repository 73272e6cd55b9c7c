"""Where the sockets of keepers are: one folder a user, one name a target. Holders of missing pages
(ckpt.lazy) have theirs there as well.

root has /run/ckpt, others $XDG_RUNTIME_DIR/ckpt; /tmp/ckpt-UID where that can't be. A folder that
is a link, belongs to somebody else, or can be entered by others is refused: whoever can put a
socket there could pose as the keeper and be handed descriptors of the target.

Everything goes through a descriptor of the folder, /proc/self/fd included, so that no path is
walked a second time. Making and removing a socket of a name happens under flock(2) of the folder;
only a keeper that still listens removes its own without.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ckpt.errors import DeadlineError, KernelError, TargetError
from ckpt.procfs.tree import look
from ckpt.scope import Closing

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_S, _NAP_S = 5.0, 0.01
_MISSING = "missing-"
_NAME = re.compile(r"(?:keeper|missing)-([0-9]{1,10})-([0-9]{1,20})")


def folders(uid: int, environment: Mapping[str, str]) -> list[Path]:
    """The folders that come into question, the best first."""
    found = [Path("/run/ckpt")] if uid == 0 else []
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if uid and runtime.startswith("/"):
        found.append(Path(runtime, "ckpt"))
    return [*found, Path(f"/tmp/ckpt-{uid}")]


def socket_name(root_pid: int, start_time: int) -> str:
    """`start_time`: of /proc/PID/stat, in clock ticks; a pid alone is used again."""
    return f"keeper-{root_pid}-{start_time}"


def missing_name(pid: int, start_time: int) -> str:
    """The same of who brings this process the pages that it was restored without."""
    return f"{_MISSING}{pid}-{start_time}"


class Folder(Closing):
    """An open folder that only we can use. Close it, or use it as a context manager."""

    def __init__(self, path: Path, uid: int, *, create: bool) -> None:
        """Raises OSError (there is none, it can't be made) and KernelError (it is not ours)."""
        self.path = path
        if create:
            with suppress(FileExistsError):
                path.mkdir(0o700)
        try:
            self.dirfd = os.open(path, _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise _refused(path, "it is no directory") from error
            raise
        try:
            self._check(uid)
        except BaseException:
            self.close()
            raise

    def _check(self, uid: int) -> None:
        found = os.fstat(self.dirfd)
        if found.st_uid != uid:
            raise _refused(self.path, f"it belongs to user {found.st_uid}")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise _refused(self.path, f"its mode is {stat.S_IMODE(found.st_mode):o}, not 700")

    def close(self) -> None:
        os.close(self.dirfd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else makes or removes a socket here. DeadlineError when it can't be had."""
        lock = os.open(".", _DIRECTORY, dir_fd=self.dirfd)
        try:
            _lock(lock, self.path)
            yield
        finally:
            os.close(lock)

    def connect(self, name: str) -> socket.socket | None:
        """A connection; None where nobody listens, whether or not there is a socket."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self._address(name))
        except (ConnectionRefusedError, FileNotFoundError):
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise
        return sock

    def listen(self, name: str, *, backlog: int) -> socket.socket:
        """A new listening socket of mode 600."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            os.fchmod(sock.fileno(), 0o600)  # bind gives the name the socket's own mode
            sock.bind(self._address(name))
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def has(self, name: str) -> bool:
        """Whether there is such a socket; it may be stale."""
        return os.access(name, os.F_OK, dir_fd=self.dirfd)

    def has_missing(self) -> bool:
        """Whether there is any name of `missing_name`."""
        return any(name.startswith(_MISSING) for name in os.listdir(self.dirfd))

    def remove(self, name: str) -> None:
        """Harmless where there is none."""
        try:
            os.unlink(name, dir_fd=self.dirfd)
        except FileNotFoundError:
            return

    def sweep(self) -> None:
        """Remove what keepers that were killed have left of targets that are gone, too; nobody
        would ask for them again. To be called within `locked`."""
        for name in os.listdir(self.dirfd):
            parts = _NAME.fullmatch(name)
            if parts is None:
                continue
            task = look(int(parts[1]))
            if task is not None and task.starttime == int(parts[2]):
                continue
            sock = self.connect(name)
            if sock is None:
                self.remove(name)
            else:
                sock.close()

    def _address(self, name: str) -> str:
        return f"/proc/self/fd/{self.dirfd}/{name}"


def existing(uid: int, environment: Mapping[str, str]) -> Iterator[Folder]:
    """Each folder that is there, open. One that is not ours is passed over."""
    for path in folders(uid, environment):
        try:
            folder = Folder(path, uid, create=False)
        except (OSError, KernelError):
            continue
        with folder:
            yield folder


def made(uid: int, environment: Mapping[str, str]) -> Folder:
    """The first folder that is there or can be made. KernelError: none, and why."""
    reasons = []
    for path in folders(uid, environment):
        try:
            return Folder(path, uid, create=True)
        except KernelError as error:
            reasons.append(str(error))
        except OSError as error:
            reasons.append(f"{path}: {error.strerror}")
    raise KernelError("there is no place for the keeper's socket", why="; ".join(reasons))


def _lock(fd: int, path: Path) -> None:
    until = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                why = f"another process has held its lock for {_LOCK_S:g} s"
                raise DeadlineError("can't be used", resource=str(path), why=why) from None
            time.sleep(_NAP_S)
        else:
            return


def _refused(path: Path, why: str) -> KernelError:
    hint = "remove it, if it is not somebody's on purpose"
    return KernelError("is no safe place for sockets", resource=str(path), why=why, hint=hint)


def is_tracked(root_pid: int, start_time: int) -> bool:
    """Whether there is a socket of a keeper: cheap, for those who most often find none."""
    name = socket_name(root_pid, start_time)
    return any(folder.has(name) for folder in existing(os.geteuid(), os.environ))


def is_root_tracked(root: int) -> bool:
    """The same of the process that has this pid now. TargetError: there is none."""
    task = look(root)
    if task is None:
        raise TargetError("there is no such process", pid=root)
    return is_tracked(task.pid, task.starttime)
