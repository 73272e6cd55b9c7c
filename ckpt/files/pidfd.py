"""pidfd_open(2): descriptors of processes and threads.

Of a live one or a zombie of the tree: opened anew when all tasks and threads are there. Of one that
is dead and reaped: a child of ours that lives for this moment dies in the same way, so that poll(2)
says what it said, and PIDFD_GET_INFO with which status (ckpt-pidfd.img has that; the kernel tells
it since 6.15). Descriptions of one dead process are of one such child, which the inode number
tells since 6.9: before, all pidfds had one.

A process outside the tree is refused, unless `--external pidfd[PID]` says that it will still be
there. A restore then takes what --inherit-fd gives under that name, or else opens that pid, if it
is the very process: its inode number is the same.

Not kept: that the dead one had dumped core.

Source: pidfd_open(2), fs/pidfs.c, include/uapi/linux/pidfd.h; CRIU's criu/pidfd.c for what the
image means: flags without the access mode, a number of -1 for the dead.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import struct
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, made, value
from ckpt.files.kind import FdType, Stage
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

_PIDFD_THREAD = os.O_EXCL
_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3
_PID_MAX = 1 << 22
_SIGNALS = frozenset(range(1, 65))
_REAPED = -1


def external_name(pid: int) -> str:
    """The name of a process for --external."""
    return f"pidfd[{pid}]"


class PidfdDump(AnonymousDump):
    type = FdType.PIDFD
    links = frozenset({"anon_inode:[pidfd]"})
    field = "pidfd"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._statuses: dict[int, int] = {}

    def claims(self, d: Descriptor) -> bool:
        return super().claims(d) or d.link.startswith("pidfd:[")

    def settle(self) -> Iterable[Refusal]:
        for d, file_id in self.held:
            pid = self._pid(d)
            if pid == _REAPED:
                status = _exit_status(self.view.duplicate(d))
                if status is not None:
                    self._statuses[file_id] = status
            elif external_name(pid) not in self.view.options.external and not self.view.holds(pid):
                yield Refusal(
                    d.pid,
                    str(d),
                    f"a pidfd of process {pid}, which is outside the tree",
                    f"dump a tree that holds both, or --external '{external_name(pid)}'",
                )

    def _pid(self, d: Descriptor) -> int:
        return value(self.info(d), "Pid")

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        del file_id
        message.flags = d.flags & ~os.O_ACCMODE
        message.ino = d.ino & 0xFFFF_FFFF
        message.nspid = self._pid(d)

    def images(self) -> dict[str, Sequence[Any]]:
        own: Any = message_class("ckpt_pidfd.ckpt_pidfd_entry")
        found = [own(id=file_id, status=status) for file_id, status in self._statuses.items()]
        return {"ckpt-pidfd": found} if found else {}


def _exit_status(lfd: int) -> int | None:
    """As wait(2) gave it; None where the kernel does not tell."""
    try:
        raw = fcntl.ioctl(lfd, _GET_INFO, _INFO.pack(_INFO_EXIT, *[0] * 13))
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(raw)
    return status if mask & _INFO_EXIT else None


class PidfdRestore(AnonymousRestore):
    type = FdType.PIDFD
    field = "pidfd"
    stage = Stage.TASKS

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._statuses: dict[int, int] = {}
        self._dead: dict[int, list[int]] = {}
        self._opened: dict[int, int] = {}
        self._outside: set[int] = set()

    def flags(self, message: Any) -> int:
        return int(message.flags & ~_PIDFD_THREAD)

    def check(self, message: Any, where: str) -> None:
        if message.nspid != _REAPED and not 0 < message.nspid < _PID_MAX:
            raise ImageError(f"is of process {message.nspid}", resource=where)

    def prepare(self, wanted: Iterable[int]) -> None:
        for m in self.view.messages("ckpt-pidfd"):
            if not (os.WIFEXITED(m.status) or os.WTERMSIG(m.status) in _SIGNALS) or m.status >> 16:
                raise ImageError(f"has status {m.status:#x}", resource="ckpt-pidfd.img")
            self._statuses[m.id] = m.status
        for file_id in wanted:
            m = self.messages[file_id]
            if m.nspid == _REAPED:
                self._dead.setdefault(m.ino, []).append(file_id)

    def check_tree(self, numbers: Container[int]) -> None:
        for file_id, m in self.messages.items():
            if m.nspid != _REAPED and m.nspid not in numbers:
                self._outside.add(file_id)

    def text(self, file_id: int) -> str:
        m = self.messages[file_id]
        if m.nspid == _REAPED:
            return f"open pidfd of a dead process (status {self._statuses.get(file_id, 0):#x})"
        return f"open pidfd of {m.nspid}"

    def make(self, file_id: int, message: Any) -> int:
        if message.nspid == _REAPED:
            if file_id not in self._opened:
                self._bury(self._dead[message.ino])
            return self._opened.pop(file_id)
        if file_id not in self._outside:
            return _open(message.nspid, message.flags)
        return self._open_outside(message)

    def close(self) -> None:
        opened, self._opened = self._opened, {}
        for lfd in opened.values():
            os.close(lfd)

    def _bury(self, file_ids: list[int]) -> None:
        """Open all descriptions of one dead process: of a child that is not reaped before."""
        status = next((self._statuses[i] for i in file_ids if i in self._statuses), 0)
        pid = os.fork()
        if pid == 0:
            _die(status)
        try:
            for file_id in file_ids:
                self._opened[file_id] = _open(pid, self.messages[file_id].flags)
        finally:
            os.waitpid(pid, 0)

    def _open_outside(self, message: Any) -> int:
        name = external_name(message.nspid)
        given = self.view.inherited(name)
        if given is not None:
            return given
        try:
            lfd = _open(message.nspid, message.flags)
        except ProcessLookupError:
            lfd = -1
        if lfd >= 0:
            if os.fstat(lfd).st_ino & 0xFFFF_FFFF == message.ino:
                return lfd
            os.close(lfd)
        raise RestoreError(
            "is of a process outside the tree, which is not there any more",
            resource=name,
            hint=f"--inherit-fd 'fd[N]:{name}' with N a pidfd that is open in ckpt",
        )


def _open(pid: int, flags: int) -> int:
    return made("pidfd_open", pid, flags & (_PIDFD_THREAD | os.O_NONBLOCK))


def _die(status: int) -> None:
    """End this process with a status of wait(2), core dumps aside. Does not return."""
    try:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
    finally:
        os._exit(os.WEXITSTATUS(status))
