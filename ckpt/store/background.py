"""A store thinned by a child of ours, beside the dumps: none of its work is in a frozen window.

The child ends with us, however that comes about; it may be killed at any moment (ckpt.store.tidy).
It works when nobody else needs the processor or the disk.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import CkptError
from ckpt.store.tidy import tidy

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.report import Report

_PR_SET_PDEATHSIG = 1
_IOPRIO_WHO_PROCESS, _IOPRIO_IDLE = 1, 3 << 13
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Thinning:
    """At most one child at a time."""

    def __init__(self, store: Path, keep: int, report: Report) -> None:
        self._store = store
        self._keep = keep
        self._report = report
        self._pid = 0

    def start(self) -> None:
        """Unless it still works. No other thread of ours may be there."""
        if self.works():
            return
        parent = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            _child(parent, self._store, self._keep, self._report)

    def works(self) -> bool:
        """Whether the child has something to do yet."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        return bool(self._pid)

    def finish(self) -> None:
        """Wait until it is done."""
        if self._pid:
            os.waitpid(self._pid, 0)
            self._pid = 0

    def stop(self) -> None:
        """End it where it stands."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self.finish()


def _child(parent: int, store: Path, keep: int, report: Report) -> None:
    code = 1
    try:
        for signum in _SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        lib.ckpt_call(lib.__NR_prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        with suppress(OSError):
            os.nice(19)
        lib.ckpt_call(lib.__NR_ioprio_set, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE, 0, 0, 0)
        tidy(store, keep, report)
        code = 0
    except (CkptError, OSError) as error:
        report.warn(f"the store is not thinned: {error}")
    finally:
        os._exit(code)
