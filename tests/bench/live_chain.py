"""`python -m tests.bench.live_chain [--sizes MIB,...] [--sets N]`: for how long a target stands for
the second and later sets of a chain of live dumps, and what they hold: by write protection and by a
fork, of a target that writes a hundredth of its memory a second, in pages of 4 KiB.

Images go to the disk.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.__main__ import BUILD
from tests.bench.live import READY_S
from tests.bench.measure import next_set
from tests.support.programs import program
from tests.support.victim import start

WAYS = ("wp", "fork")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live_chain", description=__doc__)
    parser.add_argument("--sizes", default="256,1024,4096", help="in MiB")
    parser.add_argument("--sets", type=int, default=6)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    for mib in map(int, args.sizes.split(",")):
        for way in WAYS:
            print(f"{mib:6} MiB --live={way:4} {_line(measure(mib, way, args.sets))}", flush=True)
    return 0


def _line(said: list[dict[str, Any]]) -> str:
    later = [one["frozen_us"] / 1000 for one in said[1:]]
    written = statistics.median(one["pages_written"] / 256 for one in said[1:])
    return (
        f"first {said[0]['frozen_us'] / 1000:8.1f} ms, later {statistics.median(later):8.1f} ms"
        f" (most {max(later):8.1f}), of {written:7.1f} MiB"
    )


def measure(mib: int, way: str, nr_sets: int) -> list[dict[str, Any]]:
    """What the dumps of one chain say of themselves."""
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    victim = start([str(program("bench/live").build(work)), str(mib), "small"], work / "victim")
    try:
        victim.wait_ready(READY_S)
        options = (f"--live={way}", "--track-mem")
        return [next_set(work, n, "dump", victim.pid, *options) for n in range(nr_sets)]
    finally:
        victim.kill()
        victim.close()
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
