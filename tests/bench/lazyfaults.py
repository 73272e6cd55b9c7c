"""What a page costs that is missing, and how fast all of them come: over TCP, and from files.

`python -m tests.bench.lazyfaults [--mib MIB] [--calm] [--json]`

A process of that much random memory is restored lazily, then reads one page of every 128 KiB in no
order and takes the time of each; what took 5 us or more was waited for. Over TCP it moves from one
set of namespaces into another, from `dump --lazy-pages` to `lazy-pages --page-server`, on the
loopback device.

- "alone": nothing is brought but what is waited for, a page at a time: the faults themselves. The
  bare round trip, of as many bytes between two programs that do nothing else, is measured just
  before and after.
- "meanwhile": everything else comes at full speed beside the faults. "all in" is from when the
  restore has ended to when all is there. "quiet": it reads in a small part of its memory only.
- "first" and "again": it reads in that small part a moment after it runs, and nothing
  is brought but what is waited for, and what the restore before has left a record of.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import calm
from tests.support import processes
from tests.support.ckptcmd import CKPT
from tests.support.lazily import pages_held_by
from tests.support.procfd import become_subreaper
from tests.support.programs import program
from tests.support.victim import SUCCESS, Victim, start, start_program
from tests.support.worlds import FIRST_PID, World

NR_ROUND_TRIPS = 5000
WANTED_MIB = 32
MOMENT_S = 0.2
FAULT_NS = 5000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lazyfaults", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the process (1024)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    calm.add_option(parser)
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("dump and restore need root")
    become_subreaper()
    if args.calm:
        calm.become_calm()
    # The worlds have a /dev/shm of their own.
    with _folder(None) as work:
        rows = [*over_tcp(args.mib, work)]
    with _folder("/dev/shm") as work:
        rows += from_files(args.mib, work)
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


@contextmanager
def _folder(above: str | None) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix="bench-lazy-", dir=above))
    work.chmod(0o755)
    try:
        yield work
    finally:
        processes.end_leftovers({os.getpid()})
        shutil.rmtree(work)


# ---- round trips


def round_trips(work: Path) -> list[int]:
    """Nanoseconds each."""
    binary = work / "roundtrip"
    if not binary.exists():
        source = Path(__file__).with_name("roundtrip.c")
        subprocess.run(["gcc", "-O2", "-o", binary, source], check=True)
    words = calm.below(binary, NR_ROUND_TRIPS)
    return _numbers(subprocess.run(words, capture_output=True, check=True).stdout)


def _numbers(raw: bytes) -> list[int]:
    found = array.array("Q")
    found.frombytes(raw)
    return list(found)


def _spread(name: str, took_ns: Sequence[int]) -> dict[str, float]:
    ordered = sorted(took_ns)
    p99 = ordered[len(ordered) * 99 // 100]
    median = statistics.median(ordered)
    return {f"{name} us": round(median / 1e3, 1), f"{name} p99 us": round(p99 / 1e3, 1)}


# ---- one restore


@dataclass
class Run:
    """Of one restore: what each touch took, whether the page was there or not; from the first
    instruction to the end of the transfer; the figures of the server."""

    took_ns: list[int]
    all_in_s: float
    figures: dict[str, Any]


def _run(
    victim: Victim,
    bringing: subprocess.Popen[str],
    restore: list[str],
    hold: Path | None = None,
    moment_s: float = 0,
) -> Run:
    os.mkfifo(victim.folder / "end")
    victim.expect_ready()
    subprocess.run(calm.below(*restore), stdin=subprocess.DEVNULL, check=True)
    began = time.monotonic()
    if moment_s:
        select.select([], [], [], moment_s)
        victim.go()
    poll = select.poll()
    poll.register(victim.held[0], select.POLLIN)
    assert poll.poll(300_000)
    if hold is not None:
        hold.unlink()
    said, _ = bringing.communicate(timeout=300)
    all_in_s = time.monotonic() - began
    victim.go("end")
    took = _numbers((victim.folder / "latencies").read_bytes())
    return Run(took, all_in_s, json.loads(said))


def _lazy_pages(words: Sequence[str | Path | int]) -> subprocess.Popen[str]:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        calm.below(*words, "--json", "--status-fd", writer),
        stdout=subprocess.PIPE,
        pass_fds=(writer,),
        text=True,
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        assert told.read(1) == b"\0"
    return process


# ---- over TCP


def over_tcp(mib: int, work: Path) -> Iterator[dict[str, Any]]:
    bare = round_trips(work)
    with pages_held_by(work / "hold") as path:
        alone = one_move(mib, work, path)
    bare += round_trips(work)
    bare_us, fault_us = statistics.median(bare) / 1e3, statistics.median(alone.took_ns) / 1e3
    yield {
        "way": "TCP alone",
        **_spread("round trip", bare),
        **_spread("fault", alone.took_ns),
        "ratio": round(fault_us / bare_us, 2),
    }
    yield {"way": "TCP meanwhile", **_together(mib, one_move(mib, work))}
    quiet = one_move(mib, work, wanted_mib=min(mib, WANTED_MIB))
    yield {"way": "TCP quiet", **_together(mib, quiet)}


def _together(mib: int, run: Run) -> dict[str, Any]:
    missing = [ns for ns in run.took_ns if ns >= FAULT_NS]
    return {
        **_spread("fault", missing or [0]),
        "touches": len(run.took_ns),
        "waited for": len(missing),
        "all in ms": round(1e3 * run.all_in_s, 1),
        "GiB/s": round(mib / 1024 / run.all_in_s, 2),
    }


def one_move(mib: int, work: Path, hold: Path | None = None, wanted_mib: int | None = None) -> Run:
    """From one world to another."""
    folder = Path(tempfile.mkdtemp(dir=work))
    folder.chmod(0o755)
    for name in ("images", "work"):
        (folder / name).mkdir()
    with World() as here, World() as there:
        binary = program("bench/faults").build(work / "built")
        here.numbers_from(FIRST_PID)
        words = here.inside("setsid", "-w", binary, mib, wanted_mib or mib)
        victim = start(words, folder / "victim")
        victim.wait_ready()
        calm.victim(here.processes(binary)[0])
        dump = here.inside(CKPT, "dump", "-t", FIRST_PID, "-D", folder / "images")
        source = subprocess.Popen(
            calm.below(*dump, "--lazy-pages", "--json"), stdout=subprocess.PIPE, text=True
        )
        assert source.stdout is not None
        port = json.loads(source.stdout.readline())["port"]
        both = ("-D", folder / "images", "-W", folder / "work")
        asks = ("--page-server", "--port", port)
        bringing = _lazy_pages(there.inside(CKPT, "lazy-pages", *both, *asks))
        victim.go()
        restore = there.inside(CKPT, "restore", *both, "-d", "--lazy-pages")
        run = _run(victim, bringing, restore, hold)
        source.communicate(timeout=60)
        _await_success(victim)
    return run


def _await_success(victim: Victim) -> None:
    deadline = time.monotonic() + 300
    while not victim.out.rstrip().endswith(SUCCESS):
        assert time.monotonic() < deadline, victim.out
        select.select([], [], [], 0.01)
    victim.process.returncode = 0
    victim.close()


# ---- from files


def from_files(mib: int, work: Path) -> Iterator[dict[str, Any]]:
    with dumped(mib, mib, work) as (victim, images):
        victim.go()
        yield {"way": "files meanwhile", **_together(mib, one_restore(victim, images))}
    with dumped(mib, min(mib, WANTED_MIB), work) as (victim, images):
        victim.go()
        yield {"way": "files quiet", **_together(mib, one_restore(victim, images))}
    with dumped(mib, min(mib, WANTED_MIB), work) as (victim, images):
        for way in ("first", "again"):
            with pages_held_by(work / "hold") as path:
                run = one_restore(victim, images, path, MOMENT_S)
            touches, waited_for = len(run.took_ns), sum(ns >= FAULT_NS for ns in run.took_ns)
            yield {"way": f"files {way}", "touches": touches, "waited for": waited_for}
            (victim.folder / "end").unlink()
            for lfd in victim.held[1:]:
                os.close(lfd)
            del victim.held[1:]


@contextmanager
def dumped(mib: int, wanted_mib: int, work: Path) -> Iterator[tuple[Victim, Path]]:
    """One that is dumped and gone, and its images."""
    folder = Path(tempfile.mkdtemp(dir=work))
    images = folder / "images"
    images.mkdir()
    kind = program("bench/faults", str(mib), str(wanted_mib))
    victim = start_program(kind, work / "built", folder / "victim")
    calm.victim(victim.pid)
    subprocess.run(calm.below(CKPT, "dump", "-t", victim.pid, "-D", images), check=True)
    victim.await_gone([victim.pid])
    try:
        yield victim, images
    finally:
        victim.close()
        shutil.rmtree(folder)


def one_restore(victim: Victim, images: Path, hold: Path | None = None, moment_s: float = 0) -> Run:
    bringing = _lazy_pages([CKPT, "lazy-pages", "-D", images])
    restore = [str(CKPT), "restore", "-D", str(images), "-d", "--lazy-pages"]
    run = _run(victim, bringing, restore, hold, moment_s)
    victim.verdict(timeout_s=300)
    os.truncate(victim.folder / "out", 0)
    return run


if __name__ == "__main__":
    sys.exit(main())
