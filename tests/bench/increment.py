"""`python -m tests.bench.increment`: what a dump on top of pre-dumps costs, for targets of several
sizes that write the same number of pages between the sets: the frozen time must go with these, and
not with the size. The dump of everything stands beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.__main__ import BUILD, PLACES
from tests.bench.measure import next_set
from tests.support.procfd import become_subreaper
from tests.support.programs import program
from tests.support.victim import Victim, start_program


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.increment", description=__doc__)
    parser.add_argument("--sizes", default="256,1024,4096", help="MiB")
    parser.add_argument("--pages", type=int, default=2600, help="written between two sets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--place", default="tmpfs", choices=PLACES)
    parser.add_argument("--mode", default="async", choices=("async", "sync"))
    args = parser.parse_args()
    become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=PLACES[args.place]))
    built = Path(tempfile.mkdtemp(prefix="bench-built-"))
    try:
        for size in map(int, args.sizes.split(",")):
            _measure(work, built, size, args)
    finally:
        shutil.rmtree(work)
        shutil.rmtree(built)
    return 0


def _measure(work: Path, built: Path, size: int, args: argparse.Namespace) -> None:
    """The target is dumped again and again, running on; one line for each kind of dump."""
    scatter = program("bench/scatter", str(size), str(args.pages))
    victim = start_program(scatter, built, work / "victim")
    track = ("--track-mode", args.mode)
    running = ("--leave-running", "--track-mem")
    try:
        rounds, dumps = [], []
        whole = next_set(work, 0, "pre-dump", victim.pid, *track)
        for number in range(1, 2 * args.repeats, 2):
            _write(victim, 0)
            rounds.append(next_set(work, number, "pre-dump", victim.pid))
            _write(victim, 1)
            dumps.append(next_set(work, number + 1, "dump", victim.pid, *running))
        print(
            f"{size} MiB: first pre-dump {whole['memdump_us'] / 1e3:.0f} ms;"
            f" pre-dump of {rounds[0]['pages_written']} pages"
            f" {_median(rounds, 'memdump_us'):.1f} ms;"
            f" dump of {dumps[0]['pages_written']} pages stands"
            f" {_median(dumps, 'frozen_us'):.1f} ms"
            f" ({_median(dumps, 'memdump_us'):.1f} ms of it asking and copying)",
            flush=True,
        )
    finally:
        victim.kill()
        victim.close()
        for folder in work.iterdir():
            shutil.rmtree(folder)


def _median(results: list[dict[str, int]], field: str) -> float:
    """In milliseconds."""
    return statistics.median(result[field] for result in results) / 1e3


def _write(victim: Victim, turn: int) -> None:
    victim.expect_ready()
    victim.go(f"step{turn}")
    victim.wait_ready()
    # Else the wait of the turn after the next would not wait.
    os.close(victim.held.pop())


if __name__ == "__main__":
    sys.exit(main())
