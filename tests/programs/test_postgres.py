"""PostgreSQL with several backends under pgbench, dumped and restored in the middle of it.

The oracle is the client's record and the database's own: every transaction that pgbench was told to
be committed is in the history table, balances agree with that, amcheck finds every index and table
sound, and the server shuts down in order.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.programs.postgres import Cluster, running
from tests.support import processes
from tests.support.case import Case
from tests.support.nftables import own_network, tables
from tests.support.waiting import wait_until

TCP = "--tcp-established"
STRESS = bool(os.environ.get("CKPT_STRESS"))
NR_CLIENTS = 8 if STRESS else 4
NR_CYCLES = 20 if STRESS else 2
SCALE = 5 if STRESS else 1
MEANWHILE = 20 * NR_CLIENTS
"""So many transactions lie between one step and the next."""
SUMS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = sum(delta)
   AND (SELECT sum(tbalance) FROM pgbench_tellers) = sum(delta)
   AND (SELECT sum(bbalance) FROM pgbench_branches) = sum(delta)
  FROM pgbench_history
"""
END = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgbench'
"""


def committed(cluster: Cluster) -> int:
    """How many transactions there are, as another client sees it."""
    return int(cluster.ask("SELECT count(*) FROM pgbench_history"))


@contextmanager
def loaded(cluster: Cluster, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """pgbench at work without an end. It writes into `log` a line for each transaction whose commit
    it was told of."""
    words = ("-c", str(NR_CLIENTS), "-j", "2", "-T", "100000", "-n", "-l")
    bench = subprocess.Popen(
        cluster.client("pgbench", *words, "postgres"),
        cwd=log,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield bench
    finally:
        bench.kill()
        bench.wait()


def work_on(cluster: Cluster, bench: subprocess.Popen[bytes]) -> None:
    """Until there are some transactions more, with pgbench's connections as they were."""
    until = committed(cluster) + MEANWHILE
    wait_until(bench.pid, lambda: committed(cluster) >= until, 120, every_ms=50)


def carry(case: Case, cluster: Cluster, bench: subprocess.Popen[bytes], number: int) -> None:
    """Every second time on a pre-dump."""
    root, images = cluster.server.pid, case.folder / f"images{number}"
    words = [TCP]
    if number % 2:
        below = case.folder / f"below{number}"
        below.mkdir()
        case.ckpt.run("pre-dump", "-t", root, "-D", below).ok()
        work_on(cluster, bench)
        words += ["--prev-images-dir", f"../{below.name}"]
    others = processes.children(os.getpid())
    case.ckpt.dump(root, images, *words).ok()
    # Workers come and go until the freeze; when their parent is dead they are our children.
    cluster.server.await_gone([root])
    processes.wait_gone(set(processes.children(os.getpid())) - set(others))
    assert len(tables()) == 1
    case.ckpt.restore(images, TCP).ok()
    assert tables() == set()


@pytest.mark.timeout(3600 if STRESS else 600)
def test_no_transaction_is_lost(case: Case) -> None:
    log = case.folder / "transactions"
    log.mkdir()
    with own_network(), running(case) as cluster:
        cluster.run("pgbench", "-i", "-q", "-s", str(SCALE), "postgres")
        cluster.ask("CREATE EXTENSION amcheck")
        with loaded(cluster, log) as bench:
            work_on(cluster, bench)
            for number in range(NR_CYCLES):
                carry(case, cluster, bench, number)
                work_on(cluster, bench)
            assert int(cluster.ask(END)) == NR_CLIENTS
            bench.wait(60)
        verify(cluster, log)
        cluster.stop()


def verify(cluster: Cluster, log: Path) -> None:
    """Each client of pgbench may have been cut off between its last commit and the answer."""
    told = sum(len(path.read_text().splitlines()) for path in log.iterdir())
    assert told > NR_CYCLES * MEANWHILE
    assert told <= committed(cluster) <= told + NR_CLIENTS
    assert cluster.ask(SUMS) == "t"
    cluster.run("pg_amcheck", "--heapallindexed", "--parent-check", "postgres")
    assert "PANIC" not in cluster.server.out
