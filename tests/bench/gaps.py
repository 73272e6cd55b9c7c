"""`python -m tests.bench.gaps [--mib N]`: for how long a target that looks at the clock all the
time misses it: untracked, while it is pre-dumped, and while it is dumped and left running.

On a busy machine the untracked figure is the scheduler's, and the others are to be held against it.
"""

from __future__ import annotations

import argparse
import os
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

# The installed package goes before the sources: it alone has the extension.
ROOT = str(Path(__file__).resolve().parent.parent.parent)
sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]

from tests.bench.__main__ import BUILD, PLACES  # noqa: E402
from tests.support.ckptcmd import CKPT  # noqa: E402
from tests.support.programs import program  # noqa: E402
from tests.support.victim import Victim, start_program  # noqa: E402


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

        number = 0
        for turn in range(args.repeats):
            number += 1
            what = "a later pre-dump" if turn else "the first pre-dump"
            measure(what, partial(_ckpt, work, "pre-dump", victim, number))
            number += 1
            words = ("--leave-running", "--track-mem")
            measure("a dump on top of it", partial(_ckpt, work, "dump", victim, number, *words))
        pause = statistics.median(took)
        subprocess.run([str(CKPT), "untrack", str(victim.pid)], check=True)
        for _ in range(args.repeats):
            measure("untracked, as long", partial(time.sleep, pause))
        for what, each in gaps.items():
            print(f"{what}: {statistics.median(each):.2f} ms, longest {max(each):.2f} ms")
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.process.wait()
        victim.close()
        shutil.rmtree(work)
        shutil.rmtree(built)
    return 0


def _reset(victim: Victim) -> None:
    with (victim.folder / "gap").open("r+b") as gap:
        gap.write(bytes(8))


def _longest_ms(victim: Victim) -> float:
    return int.from_bytes((victim.folder / "gap").read_bytes()[:8], "little") / 1e6


def _ckpt(work: Path, verb: str, victim: Victim, number: int, *words: str) -> None:
    folder = work / str(number)
    folder.mkdir()
    prev = ("--prev-images-dir", f"../{number - 1}") if number > 1 else ()
    argv = [str(CKPT), verb, "-t", str(victim.pid), "-D", str(folder), *prev, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    sys.exit(main())
