"""`python -m tests.bench [--json] [--sizes MIB,...] [--repeats N] [--places disk,tmpfs]`"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.measure import MIB, Figures, measure
from tests.support.procfd import become_subreaper

BUILD = Path(__file__).resolve().parent.parent.parent / "build"
PLACES = {"disk": BUILD, "tmpfs": Path("/dev/shm")}
SMALL_MIB = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--sizes", default=f"{SMALL_MIB},16,256,1024,4096", help="in MiB")
    parser.add_argument("--repeats", type=int, default=3, help="medians are of so many (3)")
    parser.add_argument("--places", default="disk,tmpfs")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("dump and restore need root")
    become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    BUILD.mkdir(exist_ok=True)
    built = Path(tempfile.mkdtemp(prefix="bench-built-"))
    found: list[Figures] = []
    try:
        for place in args.places.split(","):
            for size in args.sizes.split(","):
                found.append(measure(place, PLACES[place], built, int(size), args.repeats))
                print(f"{place} {size} MiB done", file=sys.stderr)
    finally:
        shutil.rmtree(built)
    if args.json:
        print(json.dumps([dataclasses.asdict(figures) for figures in found], indent=1))
    else:
        Console().print(table(found))
    return 0


def table(found: list[Figures]) -> Table:
    columns = "place|MiB|write ms|frozen ms|GiB/s|dump ms|restore ms|GiB/s|RSS MiB"
    shown = Table(
        title="Medians. Write: a plain one; dump, restore: whole commands; RSS: peaks of both",
        title_justify="left",
    )
    for name in columns.split("|"):
        shown.add_column(name, justify="left" if name == "place" else "right")
    for f in found:
        shown.add_row(
            f.place,
            f"{f.size // MIB}",
            f"{f.write_s * 1e3:.0f}",
            f"{f.frozen_s * 1e3:.1f}",
            f"{f.rate(f.frozen_s):.2f}",
            f"{f.dump_s * 1e3:.0f}",
            f"{f.restore_s * 1e3:.0f}",
            f"{f.rate(f.restore_s):.2f}",
            f"{f.dump_rss / MIB:.0f}/{f.restore_rss / MIB:.0f}",
        )
    return shown


if __name__ == "__main__":
    sys.exit(main())
