"""Ordinary programs at work while three pre-dumps are made of them; then the dump, and the restore.

Nothing in them knows of it. What they make is compared with an undisturbed run's, and the last set
must leave pages to the sets below, or it would not have been shown that those are right. However
long the sets take, none of them comes to its end before the restore: each waits for `go` late.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs.test_pipeline import named
from tests.programs.text import write_text
from tests.requirements import require
from tests.support.case import Case
from tests.support.chain import Sets
from tests.support.victim import SUCCESS, Victim
from tests.support.waiting import wait_until

DICTIONARY = Path(__file__).with_name("dictionary.py")
NR_ROUNDS = 3
MODES = pytest.mark.parametrize("mode", ["async", "sync"])
TRANSACTIONS = 12
ROWS = 20_000


def carry(
    case: Case, victim: Victim, mode: str, progress: Callable[[], int], step: int, *words: str
) -> Sets:
    """A pre-dump whenever `progress` has grown by another `step`, three times, then the dump and
    the restore."""
    sets = Sets(case.folder / "chain", victim.pid, mode)
    begin = progress()
    for number in range(1, NR_ROUNDS + 1):
        wait_grown(victim, progress, begin + number * step)
        sets.pre_dump()
        assert not sets.report.said("is not built upon"), sets.report.warnings
    wait_grown(victim, progress, begin + (NR_ROUNDS + 1) * step)
    pids = victim.tree
    sets.dump(file_locks="--file-locks" in words)
    victim.await_gone(pids)
    assert sets.in_parent, "the sets below were not needed"
    assert len(case.ckpt.show(sets.path)["layers"]) == NR_ROUNDS + 1
    sets.restore(*words)
    return sets


def wait_grown(victim: Victim, progress: Callable[[], int], size: int) -> None:
    wait_until(victim.pid, lambda: progress() >= size, 60)


def resident(pid: int) -> int:
    """Bytes in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.fixture(scope="module")
def dictionary_output() -> str:
    """What the program prints when nobody touches it."""
    command = [sys.executable, "-S", str(DICTIONARY)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@MODES
def test_python_builds_a_dictionary(case: Case, mode: str, dictionary_output: str) -> None:
    command = f"exec {sys.executable} -S {DICTIONARY} go"
    victim = case.start_command("sh", "-c", command)
    wait_until(victim.pid, lambda: resident(victim.pid) > 12 << 20)
    carry(case, victim, mode, lambda: resident(victim.pid), 3 << 20)
    victim.go()
    assert wait_end(victim) == dictionary_output


def cpu_ticks(pid: int) -> int:
    """Processor time in user mode of all threads."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[11])


@MODES
def test_xz_with_two_workers(case: Case, mode: str) -> None:
    require(shutil.which("xz"), "xz is not installed")
    data, size = case.folder / "data", 16 << 20
    write_text(data, size)
    command = "{{ cat {data}{then}; }} | xz -3 -T2 --block-size=1MiB | sha256sum"
    undisturbed = command.format(data=data, then="")
    before = os.times().children_user
    expected = subprocess.run(["sh", "-c", undisturbed], capture_output=True, text=True, check=True)
    ticks = (os.times().children_user - before) * os.sysconf("SC_CLK_TCK")
    waiting = command.format(data=data, then="; : < go")
    victim = case.start_command("sh", "-c", f"{waiting} > sum; echo {SUCCESS}")
    wait_until(victim.pid, lambda: named(victim.pid, "xz") > 0)
    xz = named(victim.pid, "xz")
    # How much cat has read says nothing of what is left for xz to do.
    carry(case, victim, mode, lambda: cpu_ticks(xz), int(ticks / 12))
    victim.finish(60)
    assert (victim.folder / "sum").read_text() == expected.stdout


SCRIPT = f"""
PRAGMA journal_mode=TRUNCATE;
PRAGMA cache_size=-8000;
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
CREATE INDEX at ON t(b);
%s
PRAGMA integrity_check;
SELECT count(*), sum(a), max(b) FROM t;
.print {SUCCESS}
"""

TRANSACTION = """
BEGIN IMMEDIATE;
WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
  INSERT INTO t SELECT i, hex(i * 7919) FROM n;
UPDATE t SET b = b || 'x' WHERE a % 7 = 3;
COMMIT;
"""


@MODES
def test_sqlite_commits(case: Case, mode: str) -> None:
    require(shutil.which("sqlite3"), "sqlite3 is not installed")
    parts = range(0, TRANSACTIONS * ROWS, ROWS)
    script = case.folder / "script"
    transactions = [TRANSACTION.format(first=at, last=at + ROWS - 1) for at in parts]
    transactions.insert(TRANSACTIONS * 3 // 4, "\n.read go\n")
    script.write_text(SCRIPT % "".join(transactions))
    command = ["sqlite3", "-batch", "-init", str(script), "test.db", ".quit"]
    undisturbed = case.folder / "undisturbed"
    undisturbed.mkdir()
    (undisturbed / "go").touch()
    expected = subprocess.run(command, cwd=undisturbed, capture_output=True, text=True, check=True)
    size = (undisturbed / "test.db").stat().st_size
    victim = case.start_command(*command)
    database = victim.folder / "test.db"
    wait_until(victim.pid, lambda: database.exists() and database.stat().st_size > 0)
    carry(case, victim, mode, lambda: database.stat().st_size, size // 20, "--file-locks")
    (victim.folder / "go").open("w").close()
    victim.verdict(60)
    assert victim.out == expected.stdout


def wait_end(victim: Victim) -> str:
    """The output of a program that says nothing of success."""
    status = os.waitpid(victim.pid, 0)[1]
    victim.process.returncode = 0
    assert status == 0, victim.out
    return victim.out
