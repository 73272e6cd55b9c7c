"""Batches that use descriptors of ours for a moment: passed in, used, closed again.

Operations are collected and run in batches as large as one message of descriptors and the window
allow. The task has room for the descriptors of one batch at a time (253 at most).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.infect.batch import SOCK, Batch, Load

if TYPE_CHECKING:
    from ckpt.infect.session import Session

Operation = Callable[[Batch, Load], None]
_NR_MAX = 2000


class Lender:
    """Collects operations for one session; `flush` runs what is left."""

    def __init__(self, session: Session, *, timeout_s: float = 60.0) -> None:
        self._session = session
        self._timeout_s = timeout_s
        self._operations: list[tuple[int | None, Operation, int]] = []
        self._lfds: dict[int, int] = {}
        self._size = 0

    def add(self, lfd: int | None, operation: Operation, size: int = 0) -> None:
        """`operation` adds to a batch, with the descriptor `lfd` of ours in the task. With None
        it gets a slot that must not be used. `size` is what it adds beyond a few entries."""
        new_lfds = len(self._lfds) + (lfd is not None and lfd not in self._lfds)
        room = len(self._session.layout.batches) - 65536
        full = len(self._operations) >= _NR_MAX or self._size + size > room
        if self._operations and (full or new_lfds > lib.CKPT_MAX_FDS):
            self.flush()
        if lfd is not None:
            self._lfds.setdefault(lfd, len(self._lfds))
        self._operations.append((lfd, operation, size))
        self._size += size + 256

    def flush(self) -> None:
        if not self._operations:
            return
        batch = Batch()
        lfds = list(self._lfds)
        slots = batch.receive_fds(SOCK, len(lfds)) if lfds else []
        unused = Load(batch.put(b"\xff" * 4), 4)
        for lfd, operation, _ in self._operations:
            operation(batch, unused if lfd is None else slots[self._lfds[lfd]])
        for slot in slots:
            batch.call("close", slot)
        self._operations, self._lfds, self._size = [], {}, 0
        self._session.run(batch, fds=lfds, timeout_s=self._timeout_s)
