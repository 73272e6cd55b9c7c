"""One measurement: a process of a given size, dumped to and restored from one folder."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.ckptcmd import CKPT
from tests.support.programs import program
from tests.support.victim import Victim, start_program

MIB = 1 << 20


@dataclass(frozen=True)
class Command:
    """One run of ckpt. `took_s` is the whole command, start of Python included."""

    took_s: float
    peak_rss: int
    result: Any


@dataclass(frozen=True)
class Figures:
    """Medians of the repeats of one size in one place. Times in seconds, memory in bytes.

    `write_s`: a plain write(2) of `size` bytes of own memory, neither synced nor cold.
    """

    place: str
    size: int
    write_s: float
    frozen_s: float
    dump_s: float
    restore_s: float
    dump_rss: int
    restore_rss: int

    def rate(self, seconds: float) -> float:
        """GiB/s of `size` bytes in `seconds`."""
        return self.size / 2**30 / seconds


def run_ckpt(work: Path, verb: str, *arguments: str) -> Command:
    """Run it to its end; anything but success ends the benchmark."""
    argv = [str(CKPT), verb, *arguments, "--json"]
    with (work / "result").open("w+") as out, (work / "messages").open("w+") as messages:
        began = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=messages)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(argv)}: {(work / 'messages').read_text()}")
    text = (work / "result").read_text()
    return Command(took, usage.ru_maxrss * 1024, json.loads(text) if text else {})


def result_of(verb: str, *arguments: str | Path | int) -> Any:
    """What a command reports (--json); anything but success ends the benchmark."""
    argv = [str(CKPT), verb, *map(str, arguments), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr}")
    return json.loads(done.stdout) if done.stdout else {}


def next_set(chain: Path, number: int, verb: str, pid: int, *options: str) -> Any:
    """Write set `number` of a chain, 0 the first; what the command reports."""
    folder = chain / str(number)
    folder.mkdir()
    prev = ("--prev-images-dir", f"../{number - 1}") if number else ()
    return result_of(verb, "-t", pid, "-D", folder, *prev, *options)


def plain_write(folder: Path, size: int) -> float:
    """Seconds that write(2) takes for `size` bytes of memory that is there, into a new file."""
    argv = [sys.executable, "-m", "tests.bench.plainwrite", str(folder / "plain"), str(size)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return float(done.stdout)


@contextmanager
def resident(built: Path, work: Path, size_mib: int) -> Iterator[Victim]:
    """A process with that much random memory; ended if it still is."""
    victim = start_program(program("bench/resident", str(size_mib)), built, work / "victim")
    try:
        yield victim
    finally:
        victim.close()
        processes.end_leftovers({os.getpid()})
        victim.process.returncode = 0


def measure(place: str, folder: Path, built: Path, size_mib: int, repeats: int) -> Figures:
    """Dump and leave running `repeats` times, then dump and restore `repeats` times."""
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=folder))
    images = work / "images"
    writes, dumps, restores = [], [], []

    def dump(victim: Victim, *options: str) -> Command:
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir()
        return run_ckpt(work, "dump", "-t", str(victim.pid), "-D", str(images), *options)

    try:
        with resident(built, work, size_mib) as victim:
            for _ in range(repeats):
                writes.append(plain_write(work, size_mib * MIB))
                dumps.append(dump(victim, "--leave-running"))
            for _ in range(repeats):
                dump(victim)
                victim.await_gone([victim.pid])
                restores.append(run_ckpt(work, "restore", "-D", str(images), "-d"))
            victim.finish(timeout_s=120)
    finally:
        shutil.rmtree(work)
    return Figures(
        place=place,
        size=size_mib * MIB,
        write_s=statistics.median(writes),
        frozen_s=median(dumps, lambda run: run.result["frozen_us"] / 1e6),
        dump_s=median(dumps, lambda run: run.took_s),
        restore_s=median(restores, lambda run: run.took_s),
        dump_rss=max(run.peak_rss for run in dumps),
        restore_rss=max(run.peak_rss for run in restores),
    )


def median(runs: list[Command], figure: Callable[[Command], float]) -> float:
    return statistics.median(figure(run) for run in runs)
