"""Building on the set before: what the keeper and that set say together, for one dump or pre-dump.

A page is left to the parent only where all three agree: the keeper's base is the very set that the
parent directory holds, the keeper has not heard of a write since, and the chain in that directory
has the page. Where anything speaks against it, the page is written.

Steps, each of which may be the last:

1. `begin`, before the freeze: look at the parent set, find the keeper, or start one.
2. `round`: the dirty bits move from the kernel to the keeper.
3. The set is written and committed.
4. `commit`: the keeper forgets what that set holds. If we end before this, the keeper's base is
   still the older set, and the next dump that builds on the new one is whole, with a warning.

A keeper that ends or hangs costs pages, no set: where the tree stands already it is given up, and
every page is written (`last_round`); once the set is whole, that it can't be told is a warning.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, TargetError
from ckpt.images.chain import MAX_DEPTH
from ckpt.images.parent import parent_of
from ckpt.images.types import parse_name
from ckpt.mem.extents import Extents
from ckpt.mem.resolve import resolve
from ckpt.mem.tracking.adopt import adopt_new
from ckpt.mem.tracking.choose import choose
from ckpt.mem.tracking.client import ANSWER_S, Keeper
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.state import Answer
from ckpt.record import field, record
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from ckpt.dump.options import DumpOptions
    from ckpt.images.parent import ParentSet
    from ckpt.images.writer import ImageSetWriter
    from ckpt.mem.room import Listed
    from ckpt.report import Report

_STANDING_S, _STANDING_S_PER_TIB = 3.0, 10.0
"""How long a tree stands for the sake of its keeper's answer. Of populated memory a scan takes up
to 10 s/TiB; of reserved memory next to nothing."""


@record
class Increment:
    """`parent` is None where everything must be written. `held` are its pages by task, None where
    they are at a page server, which refuses what it does not have. `own`: the keeper was started
    here, so nobody misses it when this dump fails. `given_up`: it does not answer, nothing of what
    it knows is used. A context manager: closes the connection."""

    keeper: Keeper
    parent: ParentSet | None
    own: bool
    held: dict[int, Extents] | None
    answers: dict[int, Answer] = field(default_factory=dict)
    given_up: bool = False

    def round(self, wanted: Mapping[int, Listed]) -> dict[int, Answer]:
        """Ask what was written while the tree runs, and watch it from here on. Tasks that are not
        tracked, or are no more, get no answer."""
        ranges = {pid: one.ranges for pid, one in wanted.items()}
        rooms = {pid: one.room for pid, one in wanted.items()}
        self.answers = self.keeper.round(ranges, rearm=True, rooms=rooms)
        return self.answers

    def last_round(
        self, wanted: Mapping[int, Extents], *, rearm: bool, report: Report
    ) -> dict[int, Answer]:
        """The same while the tree stands, which does not wait long for a keeper: without answers
        every page is written."""
        nr_bytes = sum(pages.nr_pages for pages in wanted.values()) * PAGE
        answer_s = min(ANSWER_S, _STANDING_S + _STANDING_S_PER_TIB * nr_bytes / (1 << 40))
        try:
            self.answers = self.keeper.round(wanted, rearm=rearm, answer_s=answer_s)
        except CkptError as error:
            self.given_up = True
            self.answers = {}
            report.warn(f"every page is written, as if nothing had been tracked: {error}")
        return self.answers

    def kept(self, pid: int, *, final: bool) -> Extents:
        """The pages of a task that the parent has as they are now. `final`: no later set will put
        right what io_uring or AIO have written unseen."""
        answer = self.answers.get(pid)
        if self.parent is None or answer is None or (final and answer.io_contexts):
            return Extents.none()
        kept = answer.stored - answer.must
        return kept if self.held is None else kept & self.held.get(pid, Extents.none())

    def link(self, writer: ImageSetWriter) -> None:
        """Make the set that is being written one that builds on the parent."""
        if self.parent is not None:
            writer.link_parent(self.parent.path, self.parent.run_id)

    def adopt(self, root: int, report: Report) -> frozenset[int]:
        """Track every task of the tree, each stopped by itself for its infection; returns them."""
        adopt_new(self.keeper, root, report)
        return frozenset(self.keeper.tracked())

    def commit(
        self,
        run_id: str,
        stored: Mapping[int, Extents],
        *,
        settled: Mapping[int, bool],
        io_contexts: Mapping[int, bool],
    ) -> None:
        """The set `run_id`, which resolves the pages `stored`, is whole. `settled`: no direct I/O
        of before the round is in flight. Tasks without an answer were not in the round."""
        if self.given_up:
            return
        mine = {pid: pages for pid, pages in stored.items() if pid in self.answers}
        self.keeper.commit(
            run_id,
            mine,
            settled={pid: settled[pid] for pid in mine},
            io_contexts={pid: io_contexts[pid] or self.answers[pid].io_contexts for pid in mine},
        )

    def untrack(self) -> None:
        """End the tracking, which no later dump builds on."""
        if not self.given_up:
            self.keeper.untrack()

    @contextmanager
    def set_is_whole(self, report: Report) -> Iterator[None]:
        """Within it the keeper is told what came of the set. That it can't be is no failure of the
        dump: the target may be gone, and there is all that is needed to restore it."""
        try:
            yield
        except CkptError as error:
            report.warn(f"the set is whole, but the next one can't build on it: {error}")

    def dedup(self, options: DumpOptions, report: Report) -> None:
        """Free the pages of older sets that the new one overrides."""
        from ckpt.images.dedup import punch_overridden

        if self.parent is not None and options.page_server is None:
            try:
                freed = punch_overridden(str(options.images_dir))
            except CkptError as error:
                # The new set is whole: only room is lost.
                report.warn(f"no page of an older set was freed: {error}")
                return
            report.info(f"{freed >> 10} KiB of older images freed")

    def abandon(self) -> None:
        """The dump has failed: a keeper that only it needed ends."""
        if self.own and not self.given_up:
            # That error is what the user must know of. The keeper ends with the target.
            with suppress(CkptError):
                self.keeper.untrack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self.abandon()
        finally:
            self.keeper.close()


def begin(options: DumpOptions, report: Report, *, track: bool) -> Increment | None:
    """Find what there is to build on. `track`: writes shall be tracked from this dump on.

    None: nothing is tracked, nor shall be. Raises ImageError for a parent that is none.
    """
    parent = None
    if options.prev_images_dir:
        parent = parent_of(options.images_dir, options.prev_images_dir, resolver=resolve)
    keeper = Keeper.find(options.tree)
    own = keeper is None and track
    if keeper is None and track:
        keeper = Keeper.start(
            options.tree, choose(Mode(options.track_mode) if options.track_mode else None)
        )
    if parent is not None:
        why = _mismatch(keeper, parent, own=own)
        if why:
            report.warn(
                f"{options.prev_images_dir} is not built upon, every page is written: {why}"
            )
            parent = None
    if keeper is None:
        return None
    held = None if options.page_server else _held(parent)
    return Increment(keeper, parent, own, held)


def _held(parent: ParentSet | None) -> dict[int, Extents]:
    if parent is None:
        return {}
    names = ((parse_name(name), ranges) for name, ranges in parent.ranges.items())
    return {
        name.number: Extents.of(ranges)
        for name, ranges in names
        if name.type.stem == "pagemap" and name.number is not None
    }


def _mismatch(keeper: Keeper | None, parent: ParentSet, *, own: bool) -> str:
    """Why the keeper's knowledge is of no use for this parent."""
    if keeper is None or own:
        return "nothing has tracked this tree's writes since"
    if not parent.run_id:
        return "that set has no identity"
    if parent.full:
        return f"its chain has {MAX_DEPTH} sets already, the most that can be restored"
    if keeper.base != parent.run_id:
        return "writes are tracked since another set"
    return ""


def end(pid: int) -> bool:
    """Stop tracking the tree of `pid`; False where nothing tracks it. TargetError: no such task."""
    keeper = Keeper.find(pid)
    if keeper is None:
        return False
    try:
        keeper.untrack()
    except TargetError:
        pass
    finally:
        keeper.close()
    return True
