"""Ordinary programs in the middle of their work: what they make equals an uninterrupted run's.

However long a dump takes, their shell does not come to its end before: it waits for `go`.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.programs.text import write_text
from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.victim import SUCCESS, Victim
from tests.support.waiting import position, wait_until

COMPRESS = "{{ cat {data}{then}; }} | xz -0 -T2 | sha256sum"
WAIT = "; : > read; : < go"


def named(root: int, comm: str) -> int:
    """The pid of the one program of that name below `root`, 0 while there is none."""
    for pid in processes.tree(root):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == comm:
                return pid
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def wait_until_read(victim: Victim, comm: str, size: int) -> None:
    """Until that program has read more than `size` bytes of its file, which is descriptor 3, or
    all of it."""
    over = victim.folder / "read"
    wait_until(victim.pid, lambda: position(named(victim.pid, comm), 3) > size or over.exists(), 60)


def has_lines(path: Path, count: int) -> bool:
    return path.exists() and len(path.read_text().split()) > count


def carry(case: Case, victim: Victim) -> None:
    """Dump it, see that all of it is gone, restore it. It works: what is visible may change."""
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    # It runs again, and a member may have come to its end by now.
    assert victim.pid in victim.tree and set(victim.tree) <= set(pids)
    shutil.rmtree(case.images)


def test_compressing_pipeline(case: Case) -> None:
    """cat | xz with two workers | sha256sum, twice carried over."""
    require(shutil.which("xz"), "xz is not installed")
    data, size = case.folder / "data", 24 << 20
    write_text(data, size)
    command = COMPRESS.format(data=data, then="")
    expected = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    waiting = COMPRESS.format(data=data, then=WAIT)
    victim = case.start_command("sh", "-c", f"{waiting} > sum; echo {SUCCESS}")
    for part in (5, 2):
        wait_until_read(victim, "cat", size // part)
        carry(case, victim)
    victim.finish(60)
    assert (victim.folder / "sum").read_text() == expected.stdout


def test_parallel_sort(case: Case) -> None:
    """sort with two threads and little memory, so that it spills to temporary files."""
    data, size = case.folder / "data", 16 << 20
    write_text(data, size, separator=b"\n")
    options = ["--parallel=2", "-S", "4M", "-T", str(case.folder), str(data)]
    expected = subprocess.run(
        ["sort", *options], env={"LC_ALL": "C"}, capture_output=True, check=True
    )
    victim = case.start_command(
        "sh", "-c", f"LC_ALL=C sort {' '.join(options)} -o sorted{WAIT}; echo {SUCCESS}"
    )
    wait_until_read(victim, "sort", size // 2)
    carry(case, victim)
    victim.finish(60)
    assert (victim.folder / "sorted").read_bytes() == expected.stdout


def test_shell_in_a_loop(case: Case) -> None:
    """A shell script that starts programs all the time, dumped whenever it happens to be."""
    loop = "i=0; while [ ! -e enough ]; do i=$((i+1)); echo $i | cat >> log; done"
    victim = case.start_command("sh", "-c", f"{loop}; echo {SUCCESS}")
    log = victim.folder / "log"
    for lines in (30, 100, 180):
        wait_until(victim.pid, partial(has_lines, log, lines))
        carry_moving(case, victim)
    (victim.folder / "enough").touch()
    victim.verdict()
    written = log.read_text().split()
    assert len(written) > 180 and written == [str(i + 1) for i in range(len(written))]


def carry_moving(case: Case, victim: Victim) -> None:
    """Like `carry` for a tree whose members change until it is frozen."""
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone([victim.pid, *processes.children(victim.pid)])
    processes.reap_orphans()
    case.ckpt.restore(case.images).ok()
    shutil.rmtree(case.images)
