"""How soon a restored process runs, and how soon it has all of its memory: lazily, and not.

`python -m tests.bench.lazy [--sizes MIB,...] [--repeats N] [--json]`

A process of so much random memory waits; its first instruction after the restore tells us. That is
measured from the start of the program, and from when it begins to read the images (its log says
when). The images are in the page cache, in tmpfs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The installed package goes before the sources: it alone has the extension.
ROOT = str(Path(__file__).resolve().parent.parent.parent)
sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]

from tests.support import processes  # noqa: E402
from tests.support.ckptcmd import CKPT  # noqa: E402
from tests.support.lazily import HOLDER, SOCKET, named  # noqa: E402
from tests.support.procfd import become_subreaper  # noqa: E402
from tests.support.programs import program  # noqa: E402
from tests.support.victim import Victim, start_program  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lazy", description=__doc__)
    parser.add_argument("--sizes", default="64,1024,4096", help="in MiB")
    parser.add_argument("--repeats", type=int, default=3, help="medians are of so many (3)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("dump and restore need root")
    become_subreaper()
    found = []
    for size in args.sizes.split(","):
        found += measured(int(size), args.repeats)
        print(f"{size} MiB done", file=sys.stderr)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        for row in found:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


def measured(size_mib: int, repeats: int) -> list[dict[str, object]]:
    work = Path(tempfile.mkdtemp(prefix="bench-lazy-", dir="/dev/shm"))
    rows: list[dict[str, object]] = []
    try:
        victim = start_program(program("bench/first", str(size_mib)), work, work / "victim")
        images = work / "images"
        images.mkdir()
        subprocess.run([CKPT, "dump", "-t", str(victim.pid), "-D", images], check=True)
        victim.await_gone([victim.pid])
        victim.go()
        for way in ("full", "lazy", "lazy again"):
            runs = [one(victim, images, lazy=way != "full") for _ in range(repeats)]
            columns = zip(*runs, strict=True)
            medians = [round(1e3 * statistics.median(column), 1) for column in columns]
            names = ("first ms", "from the plan ms", "all in ms")
            rows.append({"MiB": size_mib, "way": way, **dict(zip(names, medians, strict=True))})
    finally:
        processes.end_leftovers({os.getpid()})
        shutil.rmtree(work)
    return rows


def one(victim: Victim, images: Path, *, lazy: bool) -> tuple[float, float, float]:
    """Seconds to the first instruction, the same from the start of the plan, and to the end of the
    transfer."""
    log = images.parent / "log"
    log.unlink(missing_ok=True)
    if not lazy:
        (images / "ckpt-working-set.img").unlink(missing_ok=True)
    victim.expect_ready()
    began = time.monotonic()
    argv = [CKPT, "restore", "-D", images, "-d", "-v3", "-o", log, *(["--lazy"] if lazy else [])]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    poll = select.poll()
    poll.register(victim.held[0], select.POLLIN)
    assert poll.poll(60_000)
    first = time.monotonic() - began
    assert process.wait() == 0
    while lazy and ((images / SOCKET).exists() or named(HOLDER)):
        select.select([], [], [], 0.001)
    all_in = time.monotonic() - began
    victim.verdict(timeout_s=300)
    os.truncate(victim.folder / "out", 0)  # as it was at the dump
    read = re.search(r"^\(0*(\d+\.\d+)\) Stage: read", log.read_text(), re.MULTILINE)
    assert read
    return first, first - float(read[1]), all_in


if __name__ == "__main__":
    sys.exit(main())
