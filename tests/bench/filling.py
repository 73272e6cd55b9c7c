"""How long a tree stands that moves: its downtime must go with what it wrote last, not with its
size, on both sides.

`python -m tests.bench.filling [--sizes MIB,...] [--rounds N] [--repeats N]`

A process that writes a hundredth of its memory a second moves between two sets of namespaces of
this machine. `frozen` is until everything was taken from it, `downtime` until it could run there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from tests.support import processes
from tests.support.moved import migrate, serving
from tests.support.procfd import become_subreaper
from tests.support.programs import program
from tests.support.victim import start
from tests.support.worlds import World, number_inside


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.filling", description=__doc__)
    parser.add_argument("--sizes", default="256,1024,4096", help="in MiB")
    parser.add_argument("--rounds", default="2", help="pre-dumps before the last dump, or auto")
    parser.add_argument("--repeats", type=int, default=3, help="medians are of so many (3)")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("to migrate needs root")
    become_subreaper()
    with World() as here, World() as there:
        for size in args.sizes.split(","):
            runs = [_one(here, there, int(size), args.rounds) for _ in range(args.repeats)]
            names = ("frozen", "downtime", "total")
            found = {n: statistics.median(run[f"{n}_us"] for run in runs) / 1000 for n in names}
            print(f"{size} MiB", *(f"{name} {ms:.0f} ms" for name, ms in found.items()), sep="  ")
    return 0


def _one(here: World, there: World, size_mib: int, rounds: str) -> dict[str, int]:
    work = Path(tempfile.mkdtemp(prefix="bench-filling-"))
    work.chmod(0o755)
    known = set(processes.tree(os.getpid()))
    try:
        binary = program("bench/live", str(size_mib), "small").build(work)
        here.numbers_from(5000)
        victim = start(here.inside("setsid", binary, size_mib, "small"), work / "victim")
        victim.wait_ready(600)
        pid = number_inside(processes.children(victim.process.pid)[0])
        with serving(there, work / "images", "--once") as server:
            done = migrate(here, pid, server.port, "--pre-rounds", rounds, timeout_s=600)
        if done.returncode:
            sys.exit(f"{done.stderr}and there:\n{(work / 'serve.err').read_text()}")
        said: dict[str, int] = json.loads(done.stdout)
        return said
    finally:
        processes.end_leftovers(known)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
