"""Pre-dumps that go on while they pay, then the dump: `--pre-rounds`.

Every round copies what was written while the one before it was copied. As long as copying is faster
than writing, rounds get shorter, and with them what the frozen window would have to copy. The
frozen time of a dump right after a round is predicted from that round:

    fixed + scan of all pages + copy of what is written until then

What is written until then is not proportional to time, for a program writes some pages again and
again: of a shorter interval the square root of the ratio is taken, which errs to the safe side.
Rounds end when the prediction is short enough, or when it does not get better any more.

The sets of the rounds are `pre-1`, `pre-2`, ... in the folder of images, whose own set builds on
the last of them. They go when there is no such set in the end, and only then: what fails behind its
commit leaves them. Nothing of an older set is freed before that, for it would be needed again.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from ckpt.dump.increment import end
from ckpt.dump.pre_dump import pre_dump
from ckpt.dump.run import dump
from ckpt.errors import CkptError, DeadlineError, ImageError
from ckpt.images.types import INVENTORY, file_name
from ckpt.images.writer import ImageSetWriter
from ckpt.mem.tracking.where import is_root_tracked
from ckpt.record import record, replace
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats
    from ckpt.report import Report

MOST = 30
_FIXED_MS = 5.0
_SCAN_MS_PER_GIB = 4.0
_PAYS = 0.8
"""A round that does not bring the prediction below this part of the one before has not paid."""


@record(frozen=True)
class Round:
    """`written`: pages of this round's set; `interval_s`: the time in which they were written;
    `copy_s`: how long their copy took. `scanned` are all pages with content."""

    number: int
    written: int
    scanned: int
    interval_s: float
    copy_s: float

    @property
    def write_rate(self) -> float:
        """Bytes a second that the tree writes first; 0 for the first round, which copies all."""
        return self.written * PAGE / self.interval_s if self.number > 1 else 0.0

    @property
    def copy_rate(self) -> float:
        """Bytes a second that are copied."""
        return self.written * PAGE / max(self.copy_s, 1e-6)

    def predicted_ms(self, copy_rate: float) -> float:
        """The frozen time of a dump that comes right after this round."""
        shorter = min(1.0, self.copy_s / self.interval_s) if self.number > 1 else 1.0
        nr_bytes = self.written * PAGE * shorter**0.5
        scan_ms = _SCAN_MS_PER_GIB * self.scanned * PAGE / (1 << 30)
        copy_ms = nr_bytes / copy_rate * 1000 if nr_bytes else 0.0
        return float(_FIXED_MS + scan_ms + copy_ms)

    def __str__(self) -> str:
        rate = f", {self.write_rate / (1 << 20):.1f} MiB/s" if self.number > 1 else ""
        return f"round {self.number}: {self.written} pages{rate}"


def dump_after_rounds(
    options: DumpOptions, report: Report, *, rounds: int | None, max_downtime_ms: float | None
) -> DumpStats:
    """Make `rounds` pre-dumps (None: as many as pay, for a frozen time of `max_downtime_ms`), then
    the dump. Raises as these do, and DeadlineError where the time can't be reached; then nothing of
    the rounds is left. The pages go to files beside the images.
    """
    with ImageSetWriter(options.images_dir):
        pass  # where a set is already, the dump would be refused after all its rounds
    made: list[Path] = []
    was_tracked = is_root_tracked(options.tree)
    try:
        run_rounds(
            lambda number: _round(options, report, number, made),
            report,
            rounds=rounds,
            limit_ms=0.0 if max_downtime_ms is None else max_downtime_ms,
            tree=options.tree,
        )
        prev = made[-1].name if made else options.prev_images_dir
        stats = dump(replace(options, prev_images_dir=prev), report)
    except BaseException:
        if not (options.images_dir / file_name(INVENTORY)).exists():
            _undo(options, report, made, untrack=not was_tracked)
        raise
    if max_downtime_ms is not None and stats.frozen_us > max_downtime_ms * 1000:
        report.warn(
            f"the tree stood for {stats.frozen_us / 1000:.0f} ms, longer than predicted and than"
            f" the {max_downtime_ms:.0f} ms asked for"
        )
    return stats


def _undo(options: DumpOptions, report: Report, made: list[Path], *, untrack: bool) -> None:
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        if untrack:
            end(options.tree)
    except CkptError as error:
        report.warn(f"its writes are tracked on (ckpt untrack {options.tree}): {error}")


def run_rounds(
    make: Callable[[int], DumpStats],
    report: Report,
    *,
    rounds: int | None,
    limit_ms: float | None,
    tree: int,
) -> list[Round]:
    """Have `make` make `rounds` pre-dumps, by number from 1 (None: as many as pay, until a dump of
    `tree` would stand for at most `limit_ms`; without a limit, until they pay no more).

    Raises as `make` does, and DeadlineError where the limit can't be reached.
    """
    made: list[Round] = []
    before_s = time.monotonic()
    best_ms = copy_rate = 0.0
    for number in range(1, (MOST if rounds is None else rounds) + 1):
        began_s = time.monotonic()
        stats = make(number)
        this = Round(
            number,
            stats.pages_written,
            stats.pages_scanned,
            began_s - before_s,
            time.monotonic() - began_s,
        )
        made.append(this)
        before_s = began_s
        copy_rate = max(copy_rate, this.copy_rate)
        predicted_ms = this.predicted_ms(copy_rate)
        report.result(f"{this}, a dump now would stand for {predicted_ms:.0f} ms")
        if rounds is not None or number == 1:
            continue
        if limit_ms is not None and predicted_ms <= limit_ms:
            break
        if number == MOST or (best_ms and predicted_ms > best_ms * _PAYS):
            if limit_ms is None:
                break
            raise _out_of_reach(tree, this, predicted_ms, copy_rate, limit_ms)
        best_ms = predicted_ms
    return made


def _round(options: DumpOptions, report: Report, number: int, made: list[Path]) -> DumpStats:
    folder = options.images_dir / f"pre-{number}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        hint = "choose an empty directory with --images-dir"
        raise ImageError("is there already", resource=str(folder), hint=hint) from error
    prev = f"../{made[-1].name}" if made else _from_below(options.prev_images_dir)
    made.append(folder)
    return pre_dump(
        replace(
            options, images_dir=folder, work_dir=folder, prev_images_dir=prev, auto_dedup=False
        ),
        report,
    )


def _from_below(prev: str) -> str:
    """The user's parent set, as seen from a folder one level further down."""
    return prev if not prev or prev.startswith("/") else f"../{prev}"


def _out_of_reach(
    tree: int, last: Round, predicted_ms: float, copy_rate: float, limit_ms: float
) -> DeadlineError:
    return DeadlineError(
        f"a frozen time of {limit_ms:.0f} ms can't be reached",
        pid=tree,
        why=(
            f"it writes {last.write_rate / (1 << 20):.0f} MiB/s to fresh pages, copying makes"
            f" {copy_rate / (1 << 20):.0f} MiB/s; after {last.number} rounds a dump would stand"
            f" for {predicted_ms:.0f} ms"
        ),
        hint="--max-downtime with that much, faster storage, or less load",
    )
