"""`dump --lazy-pages`: a set whose private memory stays with the tree, which stands and is asked
for it page by page, until whoever restores it elsewhere has all. Then it ends.

Nobody here knows whether the tree runs there already. So a connection that breaks changes nothing:
the next one is waited for. Who ends the dump before the client's leave has the tree run on here,
and must know that it does not run there; the set is spoilt then, its inventory goes.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ckpt.dump.fate import Fate
from ckpt.images.types import INVENTORY, file_name
from ckpt.mem.answering import Held, answer_clients
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckpt.dump.options import DumpOptions
    from ckpt.dump.snapshot import Snapshot
    from ckpt.images.pageserver.listener import Listener
    from ckpt.mem.answering import Answered, Row
    from ckpt.report import Report
    from ckpt.tracee.freeze import SeizedTree


class LeftPages:
    """A Handover. `ready` is called once a client can connect; `answered` are the figures then."""

    def __init__(
        self,
        options: DumpOptions,
        listener: Listener,
        report: Report,
        ready: Callable[[tuple[str, int] | None], None],
    ) -> None:
        self._options = options
        self._listener = listener
        self._report = report
        self._ready = ready
        self.answered: Answered | None = None

    def __call__(self, _: SeizedTree, snapshots: Sequence[Snapshot]) -> Fate:
        """Raises ImageError, PeerError, and what interrupts us."""
        self._report.stage("serve")
        try:
            with ExitStack() as scope:
                rows: list[Row] = []
                for taken in snapshots:
                    rows += left_pages(taken, scope)
                self._ready(self._listener.where)
                self.answered = answer_clients(self._listener, Held.of(rows), self._report)
        except BaseException:
            with suppress(FileNotFoundError):
                (self._options.images_dir / file_name(INVENTORY)).unlink()
            raise
        return Fate.STOP if self._options.leave_stopped else Fate.END


def left_pages(taken: Snapshot, scope: ExitStack) -> list[Row]:
    """What was left with a task, by a descriptor that `scope` closes."""
    if not taken.content.lazy.nr:
        return []
    with ProcDir(taken.pid) as proc:
        mem = proc.open("mem", os.O_RDONLY)
    scope.callback(os.close, mem)
    return [(taken.pid, start, end, start, mem) for start, end in taken.content.lazy]
