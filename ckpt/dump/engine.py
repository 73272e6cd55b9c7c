"""What a live dump asks of whoever brings the memory of its instant into the images.

Order, for one dump:

1. `prepare`, after the preflight, while the tree runs.
2. For each task, while all stand: `find`, then `cover`; later, while the task is infected, `enter`.
   Both return pages that the engine will write by itself, at the places that the pagemap gives
   them: the n-th page of all by address is the n-th of the file. Everything else the dump copies
   while the tree stands. Then for each object of shared memory: `find_shared`, and where that has
   an answer, `cover_shared`.
3. `run_with`, as the last thing while the tree is seized: it may let it run and stay with it.
4. `deliver`, when it is not seized any more. Then every page is written that was taken over.
5. `close`, whatever happened.

The engines are in ckpt.live, which imports nothing from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ckpt.infect.session import Session
    from ckpt.mem.extents import Extents
    from ckpt.mem.tracking.client import Keeper
    from ckpt.mem.tracking.engine import Mode
    from ckpt.mem.tracking.state import Answer
    from ckpt.mem.transfer import Content
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.smaps import Smap
    from ckpt.report import Report
    from ckpt.tracee.freeze import SeizedTree


class LiveFigures(Protocol):
    """See ckpt.live.figures."""

    @property
    def peak_bytes(self) -> int: ...


class LiveEngine(Protocol):
    """`name` is that of the option's value."""

    name: str

    def goes_with(self, mode: Mode) -> bool:
        """Whether it can work where writes are tracked in this mode."""

    def prepare(self, pids: Sequence[int], report: Report, keeper: Keeper | None) -> None:
        """Whatever takes its time. `keeper`: of a tracked tree. Raises what makes a live dump
        impossible; a single task that is not fit for it is left to the dump, with a warning."""

    def prepared(self) -> Collection[int]:
        """The tasks whose mappings bear a mark of the engine's userfaultfd, as far as it has met
        them."""

    def find(self, pid: int, mappings: Sequence[Mapping]) -> tuple[Extents, Extents] | None:
        """The private pages with content of their own, and where among private memory guard pages
        may be; None: the dump has to look itself."""

    def borrowed(self) -> Collection[int]:
        """The tasks that the keeper has lent. It is not to be asked, and does not know others."""

    def answer(self, pid: int) -> Answer | None:
        """After `find`, in the place of the keeper, which has lent the task; None: it has not."""

    def cover(self, pid: int, content: Content, pages_lfd: int) -> Extents:
        """Take over pages of `content` from outside of the task."""

    def enter(
        self, pid: int, session: Session, content: Content, pages_lfd: int, withheld: Extents
    ) -> Extents:
        """Take over pages of `content` by what is done in the task itself. `withheld`: mappings
        that a child would not have as they are."""

    def find_shared(self, ino: int, mapped: Sequence[tuple[int, Smap]]) -> Extents | None:
        """The offsets of all pages with content of shared memory, of which nobody in the tree has a
        descriptor; the tasks with these pids have it `mapped` so. None: it is left to the dump."""

    def cover_shared(self, ino: int, pages_lfd: int) -> Extents:
        """Take over what `find_shared` has just found; the offsets of pages that are left to the
        dump all the same."""

    def run_with(self, tree: SeizedTree, report: Report, resumed: Callable[[], None]) -> None:
        """Returns when the tree may be let go of. `resumed` is called as soon as it runs, if it
        does before; it comes back at once. Raises as `deliver`."""

    def deliver(self, report: Report) -> None:
        """Raises NotOneInstant, ImageError, KernelError: then there is no whole set."""

    def figures(self) -> LiveFigures:
        """A record of numbers for the statistics: after `deliver`, before `close`."""

    def close(self) -> None:
        """Nothing of the engine is left in the tree. Harmless a second time."""
