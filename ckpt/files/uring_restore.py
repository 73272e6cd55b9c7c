"""Rings of io_uring on the way out of the images; see ckpt.files.uring.

A new ring is made by a task that has it, which pays for its memory, and counts its submissions up
to where it was by doing nothing as often; then its memory is what it was. It can't be sent over a
socket, nor mapped at an address of one's choice: see ckpt.restore.rings.

Source: as ckpt.files.uring; io_uring_get_unmapped_area() in io_uring/memmap.c.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any

from ckpt._native import ffi
from ckpt.errors import ImageError, RestoreError
from ckpt.files import uringring
from ckpt.files.anonymous import address, made
from ckpt.files.kind import FdType, Opener, RestoreKind, Stage
from ckpt.files.openflags import SETTABLE, checked
from ckpt.files.uring import MOST_SUBMITTED
from ckpt.files.uringring import MOST_CQ, MOST_SQ, Layout
from ckpt.infect.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.restoring import RestoreView

IMAGE = "ckpt-uring"


class UringRestore(RestoreKind):
    type = FdType.EXT
    field = "ext"
    opener = Opener.TASK
    stage = Stage.TASKS
    sendable = False

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._signums: dict[int, int] = {}
        self._rings: dict[int, Any] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"external file {file_id:#x} of files.img"
        self._signums[file_id] = self.view.signum(message.fown, where)

    def prepare(self, wanted: Iterable[int]) -> None:
        for ring in self.view.messages(IMAGE):
            where = f"ring {ring.id:#x} of {IMAGE}.img"
            if ring.id not in self._signums or ring.id in self._rings:
                raise ImageError("is no file, or there twice", resource=where)
            _check(ring, where)
            self._rings[ring.id] = ring
        for file_id in wanted:
            if file_id not in self._rings:
                raise RestoreError(
                    "is a file of a plugin of CRIU, which ckpt can't restore",
                    resource=f"external file {file_id:#x} of files.img",
                )

    def text(self, file_id: int) -> str:
        ring = self._rings[file_id]
        return f"make io_uring of {ring.sq_entries} entries, {ring.submitted} submissions later"

    def open(self, file_id: int) -> int:
        ring = self._rings[file_id]
        try:
            lfd, layout = self._made(file_id, ring)
        except OSError as error:
            raise self._failed(file_id, os.strerror(error.errno or 0)) from error
        try:
            if list(layout.offsets) != list(ring.offsets):
                raise self._failed(file_id, "this kernel has its fields elsewhere")
            self._fill(lfd, layout, ring)
            fcntl.fcntl(lfd, fcntl.F_SETFL, ring.flags & SETTABLE)
            self.view.set_signum(lfd, self._signums[file_id])
        except OSError as error:
            os.close(lfd)
            raise self._failed(file_id, str(error)) from error
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def _failed(self, file_id: int, why: str) -> RestoreError:
        return RestoreError("can't be made", resource=self.text(file_id), why=why)

    def _made(self, file_id: int, ring: Any) -> tuple[int, Layout]:
        asked = uringring.params(ring.cq_entries)
        holders = [pid for pid, table in self.view.tables.items() if file_id in table.values()]
        tasks = self.view.tasks
        pid = next((pid for pid in holders if tasks is not None and pid in tasks), None)
        if tasks is None or pid is None:
            buffer = ffi.new("uint8_t[]", asked)
            lfd = made("io_uring_setup", ring.sq_entries, address(buffer))
            return lfd, Layout.of(bytes(ffi.buffer(buffer, uringring.PARAMS.size)))
        batch = Batch()
        place = batch.put(asked)
        fd = batch.call("io_uring_setup", ring.sq_entries, place, note="io_uring")
        outcome = tasks.run(pid, batch)
        try:
            lfd = tasks.duplicate(pid, outcome.of(fd))
        finally:
            closing = Batch()
            closing.call("close", outcome.of(fd))
            tasks.run(pid, closing)
        return lfd, Layout.of(outcome.read(place, uringring.PARAMS.size))

    def _fill(self, lfd: int, layout: Layout, ring: Any) -> None:
        with uringring.region(lfd, layout.rings_size, uringring.SQ_RING) as rings:
            uringring.advance(lfd, rings, layout, ring.submitted)
            rings[:] = uringring.content(ring.rings, layout)
        with uringring.region(lfd, layout.sqes_size, uringring.SQES) as sqes:
            sqes[:] = ring.sqes


def _check(ring: Any, where: str) -> None:
    """Raises ImageError for what no ring can be."""
    sizes = (ring.sq_entries, ring.cq_entries)
    if any(n <= 0 or n & n - 1 for n in sizes) or not sizes[0] <= MOST_SQ or sizes[1] > MOST_CQ:
        raise ImageError(f"has {sizes[0]} and {sizes[1]} entries", resource=where)
    checked(ring.flags, where)
    layout = Layout(*sizes, tuple(ring.offsets))
    if len(ring.offsets) != 14 or any(at % 4 for at in ring.offsets):
        raise ImageError("has fields nowhere", resource=where)
    if layout.rings_size != len(ring.rings) or layout.sqes_size != len(ring.sqes):
        raise ImageError("has memory of another size", resource=where)
    if any(at + 4 > len(ring.rings) for at in ring.offsets):
        raise ImageError("has fields nowhere", resource=where)
    now = uringring.counters(ring.rings, layout)
    idle = now.sq_head == now.sq_tail == now.cq_tail == ring.submitted <= MOST_SUBMITTED
    if not idle or now.cq_tail - now.cq_head & 0xFFFF_FFFF > ring.cq_entries:
        raise ImageError(f"is not idle, or counts {now}", resource=where)
