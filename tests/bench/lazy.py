"""How soon a restored process runs, and how soon it has all of its memory: lazily, and not.

`python -m tests.bench.lazy [--sizes MIB,...] [--repeats N] [--calm] [--json]`

A process of so much random memory waits; its first instruction after the restore tells us. That is
measured from the start of the program, and from when it begins to read the images (its log says
when). The images are in the page cache, in tmpfs.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import calm
from tests.support import processes
from tests.support.ckptcmd import CKPT
from tests.support.lazily import HOLDER, SOCKET, named
from tests.support.procfd import become_subreaper
from tests.support.programs import program
from tests.support.victim import Victim, start_program


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lazy", description=__doc__)
    parser.add_argument("--sizes", default="64,1024,4096", help="in MiB")
    parser.add_argument("--repeats", type=int, default=3, help="medians are of so many (3)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    calm.add_option(parser)
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("dump and restore need root")
    become_subreaper()
    if args.calm:
        calm.become_calm()
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
        calm.victim(victim.pid)
        images = work / "images"
        images.mkdir()
        dump = calm.below(CKPT, "dump", "-t", victim.pid, "-D", images)
        subprocess.run(dump, check=True)
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
    if not lazy:
        (images / "ckpt-working-set.img").unlink(missing_ok=True)
    victim.expect_ready()
    began = time.monotonic()
    argv = calm.below(CKPT, "restore", "-D", images, "-d", "-v3", *(["--lazy"] if lazy else []))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    planned, first = _seen(process, victim)
    assert process.wait() == 0
    while lazy and ((images / SOCKET).exists() or named(HOLDER)):
        select.select([], [], [], 0.001)
    all_in = time.monotonic() - began
    victim.verdict(timeout_s=300)
    os.truncate(victim.folder / "out", 0)  # as it was at the dump
    return first - began, first - planned, all_in


def _seen(process: subprocess.Popen[bytes], victim: Victim) -> tuple[float, float]:
    """When its log said that it reads the images, and when the victim ran."""
    assert process.stderr is not None
    log, poll = process.stderr.fileno(), select.poll()
    for lfd in (log, victim.held[0]):
        poll.register(lfd, select.POLLIN)
    said, planned = b"", 0.0
    while True:
        ready = dict(poll.poll(60_000))
        assert ready
        now = time.monotonic()
        if victim.held[0] in ready:
            assert planned
            return planned, now
        said += os.read(log, 4096)
        if not planned and b"Stage: read" in said:
            planned = now


if __name__ == "__main__":
    sys.exit(main())
