"""One tracked address space in the hands of the keeper.

It is that of one process for as long as this process neither ends nor calls exec. Three things are
looked at, for none of them is enough: the start time, since a pid is used again; the places where
exec has put the program and its arguments, which tell even where the old memory lives on in another
process that shares it; the engine, which knows that its memory is gone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, TargetError
from ckpt.mem.room import listed
from ckpt.mem.vma import trackable
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat

if TYPE_CHECKING:
    from ckpt.mem.tracking.engine import Engine

_STAT_MAX = 4096
_DEAD = (b"Z", b"X")
_PLACES = (23, 25, 45, 47)


class Held:
    """A process and its engine. `close` lets go: nothing is left in the target."""

    def __init__(self, pid: int, start_time: int, engine: Engine) -> None:
        """Takes `engine`, and closes it if this fails: TargetError, it is not there any more."""
        self.pid = pid
        self.start_time = start_time
        self.engine = engine
        self.pidfd = self._statfd = -1
        try:
            self._statfd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            self.pidfd = os.pidfd_open(pid)
            raw = self._stat()
            self._signature = _signature(raw)
            stat = parse_stat(raw)
            if stat.starttime != start_time or stat.state in "ZX" or not engine.alive():
                raise TargetError("it is not the process any more that it was", pid=pid)
        except OSError as error:
            self.close()
            raise TargetError("it has ended", pid=pid, why=error.strerror or "") from error
        except BaseException:
            self.close()
            raise

    def unchanged(self) -> bool:
        """Whether it lives and has not called exec, so far as /proc tells; of a standing target
        that is the truth."""
        try:
            return _signature(self._stat()) == self._signature
        except OSError:
            return False

    def alive(self) -> bool:
        return self.unchanged() and self.engine.alive()

    def release(self) -> None:
        """Before `close`, which the target hardly waits for then. Harmless if it has ended."""
        if not self.unchanged():
            return
        try:
            with ProcDir(self.pid) as proc:
                mappings = parse_maps(proc.read("maps"), running=True)
        except CkptError:
            return
        self.engine.release(listed(mappings, trackable(mappings)))

    def close(self) -> None:
        self.engine.close()
        for lfd in (self._statfd, self.pidfd):
            if lfd >= 0:
                os.close(lfd)
        self._statfd = self.pidfd = -1

    def _stat(self) -> bytes:
        """The descriptor belongs to this process, whoever has its number now."""
        return os.pread(self._statfd, _STAT_MAX, 0)


def _signature(raw: bytes) -> tuple[bytes, ...]:
    """Whether it is dead, and start_code, start_stack, arg_start, env_start of proc_pid_stat(5), by
    their places: `parse_stat` of all fields would be the longest part of a round."""
    fields = raw[raw.rindex(b") ") + 2 :].split(b" ", 48)
    return (b"dead" if fields[0] in _DEAD else b"", *(fields[at] for at in _PLACES))
