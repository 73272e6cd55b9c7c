"""How long a program stands still that moves, in each mode, and how long its clients wait.

`python -m tests.bench.migrate [--keys N] [--repeats N] [--json]`

redis-server with so many keys, and CPython with five threads, go back and forth between two sets of
namespaces with a veth pair between them. The downtime is what `ckpt migrate` reports: from the
first interrupt until it could run there. The outage is what a client saw that counted all the
while, from the last answer here to the first one there. Medians; redis-server must have the digest
of all its keys after each move.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.programs.elsewhere import (
    MODES,
    Place,
    ask,
    counted,
    counting,
    cpython,
    finish_cpython,
    redis,
    two_places,
)
from tests.support.procfd import become_subreaper

FIGURES = ("frozen_us", "downtime_us", "total_us", "outage_us")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.migrate", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5, help="medians are of so many (5)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("dump and restore need root")
    become_subreaper()
    rows = []
    for program, measure in (("redis-server", of_redis), ("CPython", of_cpython)):
        for mode in MODES:
            with tempfile.TemporaryDirectory(prefix="bench-migrate-") as work:
                Path(work).chmod(0o755)
                with two_places() as places:
                    runs = measure(places, Path(work), mode, args)
            rows.append(row(program, mode, runs))
            if not args.json:
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))
    return 0


def of_redis(
    places: tuple[Place, Place], work: Path, mode: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    runs = []
    with redis(places[0], work / "victim", args.keys) as moving:
        digest = ask(moving, "DEBUG", "DIGEST")
        for number in range(args.repeats):
            to = places[1 - number % 2]
            with counting(moving, to) as client:
                said = moving.move(to, work / "images", "--mode", mode, "--tcp-close")
                runs.append({**said, **counted(client)})
            ask(moving, "DEL", "counter")
            if ask(moving, "DEBUG", "DIGEST") != digest:
                raise SystemExit(f"{mode}: other keys than before")
    return runs


def of_cpython(
    places: tuple[Place, Place], work: Path, mode: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    with cpython(places[0], work / "victim") as moving:
        runs = [
            moving.move(places[1 - number % 2], work / "images", "--mode", mode)
            for number in range(args.repeats)
        ]
        finish_cpython(moving)
    return runs


def row(program: str, mode: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, times in ms."""
    found: dict[str, Any] = {"program": program, "mode": mode}
    for name in ("rounds", "bytes", *FIGURES):
        if name in runs[0]:
            value = statistics.median(run[name] for run in runs)
            key = name.replace("_us", " ms").replace("bytes", "MiB")
            found[key] = round(value / {"bytes": 1 << 20, "rounds": 1}.get(name, 1000), 1)
    return found


if __name__ == "__main__":
    sys.exit(main())
