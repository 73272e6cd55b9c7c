"""`python -m tests.bench.live [--sizes MIB,...] [--pages small,huge,shared] [--json]`: how long a
target stands that writes a hundredth of its memory a second, and the longest gap that it sees
itself:

- untouched, for as long as a live dump takes;
- at a fork(2) of its own, which is what programs do that save themselves;
- at `ckpt dump --live=wp`, `--live=fork`, and `--leave-running`, images on disk.

On a busy machine the untouched gap is the scheduler's, and the others are to be held against it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests.bench.__main__ import BUILD
from tests.bench.measure import result_of
from tests.support.programs import program
from tests.support.victim import Victim, start

DUMPS = {
    "dump --live=wp": ("--live=wp",),
    "dump --live=fork": ("--live=fork",),
    "dump --leave-running": ("--leave-running",),
}

READY_S = 600


@dataclass(frozen=True)
class Row:
    """Times in ms; `stands_ms` is what ckpt, or the target at its fork, says of itself."""

    mib: int
    pages: str
    what: str
    stands_ms: float
    gap_ms: float
    took_s: float
    extra_mib: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("--sizes", default="256,1024,4096,8192", help="in MiB")
    parser.add_argument("--pages", default="small,huge,shared")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    rows: list[Row] = []
    for pages in args.pages.split(","):
        for mib in map(int, args.sizes.split(",")):
            for row in measure(mib, pages):
                rows.append(row)
                if not args.json:
                    print(_text(row), flush=True)
    if args.json:
        print(json.dumps([asdict(row) for row in rows]))
    return 0


def _text(row: Row) -> str:
    return (
        f"{row.mib:6} MiB {row.pages:5} {row.what:22} stands {row.stands_ms:8.2f} ms,"
        f" longest gap {row.gap_ms:8.2f} ms, {row.took_s:6.2f} s, {row.extra_mib:.0f} MiB more"
    )


def measure(mib: int, pages: str) -> list[Row]:
    """All columns for one size."""
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    command = [str(program("bench/live").build(work)), str(mib), pages]
    victim = start(command, work / "victim")
    try:
        victim.wait_ready(READY_S)
        rows = [
            _row(mib, pages, what, victim, partial(_dump, work, victim, options))
            for what, options in DUMPS.items()
        ]
        rows.insert(0, _row(mib, pages, "fork", victim, lambda: _fork(victim)))
        took_s = rows[1].took_s
        rows.insert(0, _row(mib, pages, "untouched", victim, lambda: _nothing(took_s)))
    finally:
        victim.kill()
        victim.close()
        shutil.rmtree(work)
    return rows


def _row(
    mib: int, pages: str, what: str, victim: Victim, action: Callable[[], tuple[float, float]]
) -> Row:
    _set(victim, 0, 0)
    began = time.monotonic()
    stands_ms, extra_mib = action()
    took_s = time.monotonic() - began
    return Row(mib, pages, what, stands_ms, _word(victim, 0) / 1e6, took_s, extra_mib)


def _word(victim: Victim, number: int) -> int:
    with (victim.folder / "panel").open("rb") as panel:
        panel.seek(8 * number)
        return int.from_bytes(panel.read(8), "little")


def _set(victim: Victim, number: int, value: int) -> None:
    with (victim.folder / "panel").open("r+b") as panel:
        panel.seek(8 * number)
        panel.write(value.to_bytes(8, "little"))


def _nothing(took_s: float) -> tuple[float, float]:
    threading.Event().wait(took_s)
    return 0.0, 0.0


def _fork(victim: Victim) -> tuple[float, float]:
    _set(victim, 1, 1)
    while _word(victim, 1):
        threading.Event().wait(0.001)
    return _word(victim, 2) / 1e6, 0.0


def _dump(work: Path, victim: Victim, options: tuple[str, ...]) -> tuple[float, float]:
    images = work / "images"
    images.mkdir()
    said = result_of("dump", "-t", victim.pid, "-D", images, *options)
    shutil.rmtree(images)
    extra = said["live"]["peak_bytes"] if said["live"] else 0
    return said["frozen_us"] / 1000, extra / (1 << 20)


if __name__ == "__main__":
    sys.exit(main())
