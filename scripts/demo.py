"""`make demo`: an ordinary pipeline is dumped halfway, is gone, is restored, and ends as it should.

    cat data | xz -0 -T2 | sha256sum > sum

runs once undisturbed, for the checksum and the time, and once with a dump and a restore in the
middle. None of the programs knows of ckpt. Ends with exit code 0 if both checksums are equal.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

CKPT = Path(sys.executable).with_name("ckpt")
MIB = 1 << 20
DATA_SIZE = 256 * MIB
HALFWAY = 0.5
DEADLINE_S = 120
PR_SET_CHILD_SUBREAPER = 36

console = Console(highlight=False)


@dataclass(frozen=True)
class Pipeline:
    """A running pipeline: a shell that leads its session, and its programs below it."""

    root: int
    folder: Path

    @property
    def tree(self) -> list[int]:
        pids = [self.root]
        for pid in pids:
            pids += children(pid)
        return pids

    @property
    def bytes_read(self) -> int:
        """How far `cat` has come."""
        for pid in self.tree[1:]:
            try:
                if Path(f"/proc/{pid}/comm").read_text() == "cat\n":
                    text = Path(f"/proc/{pid}/fdinfo/3").read_text()
                    return int(text.split(maxsplit=2)[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
        return -1

    @property
    def checksum(self) -> str:
        return (self.folder / "sum").read_text().split()[0]


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def start(data: Path, folder: Path) -> Pipeline:
    folder.mkdir()
    with (folder / "messages").open("w") as messages:
        shell = subprocess.Popen(
            ["sh", "-c", f"cat {data} | xz -0 -T2 | sha256sum > sum"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            start_new_session=True,
        )
    shell.returncode = 0  # waited for here, by pid: after the restore it is no child of Popen's
    return Pipeline(shell.pid, folder)


@contextmanager
def progress_of(pipeline: Pipeline, what: str) -> Iterator[Any]:
    """A bar over the bytes that the pipeline has read; yields `follow(until_bytes)`."""
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=DATA_SIZE)

        def follow(until: int | None) -> None:
            """Until that much was read, or without `until` to the end of the pipeline."""
            pidfd = os.pidfd_open(pipeline.root)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            deadline = time.monotonic() + DEADLINE_S
            try:
                while not poll.poll(20):
                    read = pipeline.bytes_read
                    bar.update(task, completed=max(0, read))
                    if until is not None and read >= until:
                        return
                    if time.monotonic() > deadline:
                        raise SystemExit(f"the pipeline has not ended in {DEADLINE_S} s")
                if until is not None:
                    raise SystemExit("the pipeline ended before it could be dumped")
                bar.update(task, completed=DATA_SIZE)
            finally:
                os.close(pidfd)

        yield follow


def make_data(path: Path) -> None:
    """Words in pseudo-random order: something between text and noise."""
    chance = random.Random(1)
    words = [chance.randbytes(chance.randint(2, 6)).hex().encode() for _ in range(4000)]
    blocks = [b" ".join(chance.choices(words, k=300_000)) for _ in range(4)]
    with path.open("wb") as out:
        left = DATA_SIZE
        while left:
            left -= out.write(chance.choice(blocks)[:left])


def ckpt(verb: str, *arguments: str | int | Path) -> tuple[Any, float]:
    """The result of a verb, as it prints it, and how long the whole command took."""
    argv = [str(CKPT), verb, *map(str, arguments), "--json"]
    with tempfile.TemporaryFile("w+") as out:
        began = time.monotonic()
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, check=False).returncode
        took = time.monotonic() - began
        if code:
            raise SystemExit(f"{' '.join(argv)}: exit code {code}")
        out.seek(0)
        return json.loads(out.read() or "{}"), took


def reap_all() -> None:
    """Wait for the ends of our children, of those too that became ours by their parents' death."""
    while children(os.getpid()):
        os.waitpid(-1, 0)


def run(work: Path) -> bool:
    data = work / "data"
    console.print("\n[bold]ckpt[/]: a pipeline is stopped halfway, put into files, and goes on\n")
    console.print("  [dim]$[/] cat data | xz -0 -T2 | sha256sum > sum\n")
    make_data(data)

    undisturbed = start(data, work / "undisturbed")
    began = time.monotonic()
    with progress_of(undisturbed, "undisturbed run ") as follow:
        follow(None)
    alone = time.monotonic() - began
    reap_all()

    carried = start(data, work / "carried")
    with progress_of(carried, "up to the middle") as follow:
        follow(int(DATA_SIZE * HALFWAY))
    pids = carried.tree
    console.print(f"  [dim]$[/] ckpt dump -t {carried.root} -D images")
    stats, dump_took = ckpt("dump", "-t", carried.root, "-D", work / "images")
    reap_all()
    left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    if left:
        raise SystemExit(f"not gone after the dump: {left}")
    console.print(f"  gone: {', '.join(map(str, pids))}: no such processes any more")

    console.print("  [dim]$[/] ckpt restore -D images -d")
    _, restore_took = ckpt("restore", "-D", work / "images", "-d")
    if sorted(carried.tree) != sorted(pids):
        raise SystemExit(f"restored other processes: {carried.tree}, not {pids}")
    with progress_of(carried, "from the middle ") as follow:
        follow(None)
    reap_all()
    report(stats, dump_took, restore_took, work / "images", len(pids), alone)
    equal = undisturbed.checksum == carried.checksum
    console.print(f"  undisturbed  {undisturbed.checksum}")
    console.print(f"  carried over {carried.checksum}")
    console.print("  [bold green]equal[/]\n" if equal else "  [bold red]NOT EQUAL[/]\n")
    return equal


def report(
    stats: Any, dump_took: float, restore_took: float, images: Path, nr_tasks: int, alone: float
) -> None:
    size = sum(path.stat().st_size for path in images.iterdir())
    frozen_s = stats["frozen_us"] / 1e6
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("processes", f"{nr_tasks}")
    table.add_row("images", f"{size / MIB:.1f} MiB, {stats['pages_written']} pages")
    table.add_row("frozen", f"{frozen_s * 1e3:.1f} ms ({size / MIB / 1024 / frozen_s:.2f} GiB/s)")
    table.add_row("dump, whole command", f"{dump_took * 1e3:.0f} ms")
    table.add_row(
        "restore, whole command",
        f"{restore_took * 1e3:.0f} ms ({size / MIB / 1024 / restore_took:.2f} GiB/s)",
    )
    table.add_row("undisturbed run", f"{alone:.1f} s")
    console.print(table)


def give_up(number: int, _frame: object) -> None:
    """By way of an exception, so that everything is cleared away."""
    raise SystemExit(f"the demo ends by {signal.Signals(number).name}")


def main() -> int:
    if os.geteuid() != 0:
        raise SystemExit("the demo dumps and restores processes: run it as root")
    for needed in ("cat", "xz", "sha256sum"):
        if not shutil.which(needed):
            raise SystemExit(f"the demo needs {needed} (Debian: xz-utils, coreutils)")
    signal.signal(signal.SIGTERM, give_up)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(2 * DEADLINE_S)
    # Orphans become ours, so that every end can be waited for, restored ones included.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    work = Path(tempfile.mkdtemp(prefix="ckpt-demo-"))
    (work / "images").mkdir()
    try:
        return 0 if run(work) else 1
    finally:
        signal.alarm(0)
        while left := children(os.getpid()):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
