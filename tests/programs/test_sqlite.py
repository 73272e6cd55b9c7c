"""The sqlite3 shell in the middle of a transaction, its locks held."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.victim import Victim
from tests.support.waiting import wait_until

WAIT4, OPENAT = "61", "257"

SCRIPT = """
PRAGMA cache_size=10;
CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
INSERT INTO t VALUES(1, 'before');
BEGIN IMMEDIATE;
WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
  INSERT INTO t SELECT i, hex(i * 7919) FROM n;
.shell echo ready > ready; : < go
INSERT INTO t VALUES(5001, 'after');
COMMIT;
PRAGMA integrity_check;
SELECT count(*), sum(a) FROM t;
.print EXIT-SUCCESS
"""


def locked(database: Path) -> bool:
    """Can nobody else begin to write?"""
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
    return False


def begun(case: Case) -> Victim:
    """A shell that has begun to write, and waits."""
    require(shutil.which("sqlite3"), "sqlite3 is not installed")
    script = case.folder / "script"
    script.write_text(SCRIPT)
    victim = case.start_command("sqlite3", "-batch", "-init", str(script), "test.db", ".quit")
    victim.wait_ready()
    # What said so is a shell below it, which system(3) may not have begun to wait for yet, and
    # which may still be taking its redirection back.
    (shell,) = processes.children(victim.pid)
    for pid, call in (victim.pid, WAIT4), (shell, OPENAT):
        wait_until(victim.pid, partial(sleeps_in, pid, call))
    return victim


def sleeps_in(pid: int, call: str) -> bool:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] == call


def test_transaction(case: Case) -> None:
    """Locked before and after; the transaction commits what it began before the dump."""
    victim = begun(case)
    database = victim.folder / "test.db"
    assert locked(database)
    case.dump_and_restore(victim, ["--file-locks"], ["--file-locks"], [])
    assert locked(database)
    victim.finish()
    assert "ok" in victim.out.splitlines()
    assert f"5001|{5001 * 5002 // 2}" in victim.out


def test_transaction_left_running(case: Case) -> None:
    victim = begun(case)
    case.ckpt.dump(victim.pid, case.images, "--file-locks", "--leave-running").ok()
    assert locked(victim.folder / "test.db")
    victim.finish()
    assert f"5001|{5001 * 5002 // 2}" in victim.out
