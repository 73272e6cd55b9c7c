"""`python -m tests.bench.gaps [--mib N]`: for how long a target that looks at the clock all the
time misses it: untracked, while it is pre-dumped, and while it is dumped and left running.

On a busy machine the untracked figure is the scheduler's, and the others are to be held against it.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.bench.__main__ import BUILD, PLACES
from tests.bench.measure import next_set
from tests.support.ckptcmd import CKPT
from tests.support.programs import program
from tests.support.victim import Victim, start_program


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gaps", description=__doc__)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--place", default="tmpfs", choices=PLACES)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=PLACES[args.place]))
    built = Path(tempfile.mkdtemp(prefix="bench-built-"))
    victim = start_program(program("bench/gaps", str(args.mib)), built, work / "victim")
    try:
        gaps: dict[str, list[float]] = {}
        took: list[float] = []

        def measure(what: str, action: Callable[[], None]) -> None:
            _reset(victim)
            began = time.monotonic()
            action()
            took.append(time.monotonic() - began)
            gaps.setdefault(what, []).append(_longest_ms(victim))

        running = ("--leave-running", "--track-mem")
        for number in range(0, 2 * args.repeats, 2):
            what = "a later pre-dump" if number else "the first pre-dump"
            measure(what, partial(next_set, work, number, "pre-dump", victim.pid))
            dump = partial(next_set, work, number + 1, "dump", victim.pid, *running)
            measure("a dump on top of it", dump)
        pause = statistics.median(took)
        subprocess.run([str(CKPT), "untrack", str(victim.pid)], check=True)
        for _ in range(args.repeats):
            measure("untracked, as long", partial(time.sleep, pause))
        for what, each in gaps.items():
            print(f"{what}: {statistics.median(each):.2f} ms, longest {max(each):.2f} ms")
    finally:
        victim.kill()
        victim.close()
        shutil.rmtree(work)
        shutil.rmtree(built)
    return 0


def _reset(victim: Victim) -> None:
    with (victim.folder / "gap").open("r+b") as gap:
        gap.write(bytes(8))


def _longest_ms(victim: Victim) -> float:
    return int.from_bytes((victim.folder / "gap").read_bytes()[:8], "little") / 1e6


if __name__ == "__main__":
    sys.exit(main())
