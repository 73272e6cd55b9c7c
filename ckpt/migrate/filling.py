"""Memory is put into place, at the destination, while rounds are still coming in.

After each round the source sends an outline of its running tree, and begins the next round when
its pages are in place: so what the frozen tree waits for in the end is only what it wrote last.
Whatever is in the way of that costs time and nothing else: the tasks end, and memory comes with the
restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ckpt.errors import CkptError, PeerError
from ckpt.migrate import outline, sets
from ckpt.restore.early import Early

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.migrate.wire import Frame
    from ckpt.report import Report


class Filling:
    """`early` has the tasks, and None once that can't be done. A context manager."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self.early: Early | None = Early()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.early is not None:
            self.early.__exit__(*error)

    def fill(self, frame: Frame) -> None:
        """Do what the frame asks for, as far as that can be done. Raises PeerError for one that
        makes no sense."""
        name = sets.round_name(frame.text("name"))
        found = outline.from_frame(frame)
        if self.early is None:
            return
        try:
            self.early.fill(self._folder / name, found)
        except PeerError:
            raise
        except CkptError as error:
            self._report.warn(f"memory comes only when all has come: {error}")
            self.early.drop()
            self.early = None
