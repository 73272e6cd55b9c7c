"""`python -m tests.bench.pause [--mib N,N]`: for how long a tree stands, by the size of its memory,
in small and in huge pages: for a live dump by write protection, by a fork, for a dump that copies
while it stands, and beside them the time that the same process takes to fork by itself.

Images go to the disk. On a busy machine all of it is longer; hold the columns against each other.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.__main__ import BUILD
from tests.bench.measure import result_of
from tests.support.programs import program
from tests.support.victim import Victim, start_program

WAYS = {
    "--live=wp": ["--live=wp"],
    "--live=fork": ["--live=fork"],
    "standing": ["--leave-running"],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pause", description=__doc__)
    parser.add_argument("--mib", default="64,256,1024")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    built = Path(tempfile.mkdtemp(prefix="bench-built-"))
    print(f"{'MiB':>6} {'pages':>6} {'own fork':>12} " + " ".join(f"{way:>12}" for way in WAYS))
    try:
        for size in map(int, args.mib.split(",")):
            for pages in ("small", "huge"):
                _line(built, size, pages, args.repeats)
    finally:
        shutil.rmtree(built)
    return 0


def _line(built: Path, size_mib: int, pages: str, repeats: int) -> None:
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    victim = start_program(program("bench/forks", str(size_mib), pages), built, work / "victim")
    try:
        own_ms = float((victim.folder / "took").read_text()) / 1e6
        cells = [f"{size_mib:>6} {pages:>6} {own_ms:>9.2f} ms"]
        for options in WAYS.values():
            frozen = [_frozen_ms(victim, work / "images", options) for _ in range(repeats)]
            cells.append(f"{statistics.median(frozen):>9.2f} ms")
        print(" ".join(cells), flush=True)
    finally:
        victim.kill()
        victim.close()
        shutil.rmtree(work)


def _frozen_ms(victim: Victim, images: Path, options: list[str]) -> float:
    images.mkdir()
    said = result_of("dump", "-t", victim.pid, "-D", images, *options)
    shutil.rmtree(images)
    return float(said["frozen_us"]) / 1000


if __name__ == "__main__":
    sys.exit(main())
