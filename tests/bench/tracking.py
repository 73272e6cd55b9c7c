"""`python -m tests.bench.tracking [--mib N] [--repeats N] [--runs N,...] [--json]`

What a round costs us: milliseconds of processor time of arming and one look that rearms, by how
much was written. What tracking costs the target: nanoseconds a page of a loop that writes each page
once after each round: untracked, with both engines, and with mprotect(2) and SIGSEGV of its own.
All are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ckpt.infect.inject import infect
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.asynchronous import Asynchronous
from ckpt.mem.tracking.engine import Engine, Mode
from ckpt.mem.tracking.open import open_pagemap, open_uffd
from ckpt.mem.tracking.synchronous import Synchronous
from ckpt.tracee.freeze import seize
from tests.support.programs import program

MIB = 1 << 20
LOOP_MIB = 64  # mprotect(2) page by page needs a mapping for each, and there may be 65530
SHARES = {"0 %": 0, "1 %": 100, "10 %": 10, "100 %": 1}
ORDERS = ("up", "about")
Make = Callable[[int, int], Engine]


@dataclass
class Writer:
    """The victim (tests/victims/bench/writer.c) and where its memory is."""

    process: subprocess.Popen[str]
    memory: Extents

    def ask(self, line: str) -> int:
        """Its answer: nanoseconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def writer(built: Path, mib: int) -> Iterator[Writer]:
    binary = program("bench/writer").build(built)
    with subprocess.Popen(
        [binary, str(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        start = int(process.stdout.readline(), 16)
        yield Writer(process, Extents.of([(start, start + mib * MIB)]))


@contextmanager
def engine(pid: int, mode: Mode, make: Make) -> Iterator[Engine]:
    with seize(pid, deadline_s=10) as tree:
        task = tree.tasks[pid]
        with infect(task) as session:
            uffd = open_uffd(session, task, mode)
    made = make(uffd, open_pagemap(pid))
    try:
        yield made
    finally:
        made.close()


def engines(runs: list[int]) -> dict[str, tuple[Mode, Make]]:
    made: dict[str, tuple[Mode, Make]] = {"async": (Mode.ASYNC, Asynchronous)}
    for run_max in runs:

        def sync(uffd: int, pagemap: int, run_max: int = run_max) -> Engine:
            return Synchronous(uffd, pagemap, run_max=run_max)

        made[f"sync, runs of {run_max}"] = (Mode.SYNC, sync)
    return made


def rounds(victim: Writer, one: Engine, repeats: int) -> dict[str, float]:
    """Milliseconds of processor time of arming and a look that rearms, by the share written."""
    one.arm(victim.memory)
    one.look(victim.memory, rearm=True)
    took: dict[str, float] = {}
    for share, step in SHARES.items():
        times = []
        for _ in range(repeats):
            if step:
                victim.ask(f"up {step}")
            began = time.thread_time()
            one.arm(victim.memory)
            one.look(victim.memory, rearm=True)
            times.append(time.thread_time() - began)
        took[share] = statistics.median(times) * 1e3
    return took


def loops(victim: Writer, before: Callable[[], object], repeats: int) -> dict[str, float]:
    """Nanoseconds for each page of a loop over all of them, by order."""
    took = {}
    for order in ORDERS:
        times = []
        for _ in range(repeats):
            before()
            times.append(victim.ask(f"{order} 1") / victim.memory.nr_pages)
        took[order] = statistics.median(times)
    return took


def measure(built: Path, mib: int, repeats: int, runs: list[int]) -> dict[str, dict[str, float]]:
    """Both tables in one, by engine."""
    found: dict[str, dict[str, float]] = {}
    with writer(built, mib) as large, writer(built, LOOP_MIB) as small:
        found["untracked"] = loops(small, lambda: None, repeats)
        for name, (mode, make) in engines(runs).items():
            with engine(large.process.pid, mode, make) as one:
                found[name] = rounds(large, one, repeats)
            with engine(small.process.pid, mode, make) as one:
                one.arm(small.memory)

                def rearm(one: Engine = one) -> None:
                    one.look(small.memory, rearm=True)

                found[name] |= loops(small, rearm, repeats)
        found["mprotect and SIGSEGV"] = loops(small, lambda: small.ask("guard"), repeats)
    return found


def table(found: dict[str, dict[str, float]], mib: int) -> Table:
    shown = Table(
        title=f"{mib} MiB. Rounds: CPU ms by share written; loops: ns a page, up and about",
        title_justify="left",
    )
    shown.add_column("engine")
    for name in (*SHARES, *ORDERS):
        shown.add_column(name, justify="right")
    for name, took in found.items():
        cells = [f"{took[share]:.2f}" if share in took else "" for share in SHARES]
        shown.add_row(name, *cells, *(f"{took[order]:.0f}" for order in ORDERS))
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tracking", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5, help="medians are of so many (5)")
    parser.add_argument("--runs", default="1,64", help="run_max of the synchronous engine (1,64)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("tracking needs root")
    built = Path(tempfile.mkdtemp(prefix="bench-built-"))
    try:
        found = measure(built, args.mib, args.repeats, [int(n) for n in args.runs.split(",")])
    finally:
        shutil.rmtree(built)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        Console().print(table(found, args.mib))
    return 0


if __name__ == "__main__":
    sys.exit(main())
