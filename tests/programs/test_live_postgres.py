"""PostgreSQL under pgbench, dumped while it runs on. Its files are copied at the instant of the
image, by an action script; then a second server is restored beside the first, with these copies.

The oracle is the client's record and the database's own: whatever pgbench was told to be committed
before the dump is there, balances agree with the history, amcheck finds every index and table
sound, and the restored server shuts down in order. So does the first, which never stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.programs.postgres import Cluster, running
from tests.programs.test_postgres import END, NR_CLIENTS, SUMS, committed, loaded, verify, work_on
from tests.support.case import Case
from tests.support.nftables import own_network
from tests.support.processes import children
from tests.support.waiting import wait_until

STRESS = bool(os.environ.get("CKPT_STRESS"))
MODES = ("wp", "wp", "fork") * 10 if STRESS else ("wp",)
FRESH = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--ipc", "--mount")
BEGIN = """
set -e
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
ip link set lo up
exec "$@"
"""
BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'"


def told(log: Path) -> int:
    """How many transactions pgbench knows to be committed, at least: it writes now and then."""
    return sum(len(path.read_text().splitlines()) for path in log.iterdir())


def dump(case: Case, cluster: Cluster, folder: Path, mode: str) -> None:
    """Into `folder`: the images, and beside them whatever files the server writes to."""
    folder.mkdir()
    script = folder / "copy"
    copied = f"{cluster.folder} {cluster.server.folder}"
    script.write_text(
        f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != live-instant ] || cp -a {copied} {folder}\n'
    )
    script.chmod(0o755)
    images = folder / "images"
    images.mkdir()
    script_option = f"--action-script={script}"
    case.ckpt.run(
        "dump", "-t", cluster.server.pid, "-D", images, f"--live={mode}", script_option
    ).ok()


@contextmanager
def beside(case: Case, cluster: Cluster, folder: Path) -> Iterator[Cluster]:
    """The restored server, with namespaces of its own. It is stopped in order."""
    places = [cluster.folder, cluster.server.folder]
    mounts = [str(path) for place in places for path in (folder / place.name, place)]
    restore = case.ckpt.argv("restore", "-D", str(folder / "images"), "--exit-status")
    with (folder / "out").open("w") as out:
        outer = subprocess.Popen(
            [*FRESH, "sh", "-c", BEGIN, "sh", *mounts, "--", *restore], stdout=out, stderr=out
        )
    try:
        wait_until(outer.pid, lambda: bool(children(outer.pid)), 60)
        init = children(outer.pid)[0]
        inside = ("nsenter", f"--net=/proc/{init}/ns/net", f"--mount=/proc/{init}/ns/mnt", "--")
        restored = replace(cluster, inside=inside)
        wait_until(outer.pid, restored.accepts, 120, every_ms=50)
        yield restored
        os.kill(children(init)[0], signal.SIGINT)
        assert outer.wait(60) == 0, (folder / "out").read_text()
    finally:
        outer.kill()
        outer.wait()


def check(restored: Cluster, at_least: int, at_most: int) -> None:
    wait_until(os.getpid(), lambda: restored.ask(BUSY) == "0", 60, every_ms=50)
    assert at_least <= committed(restored) <= at_most
    assert restored.ask(SUMS) == "t"
    restored.run("pg_amcheck", "--heapallindexed", "--parent-check", "postgres")
    # It is a server like any other: it takes up work again.
    restored.run("pgbench", "-c", "2", "-t", "20", "-n", "postgres")
    assert restored.ask(SUMS) == "t"


@pytest.mark.timeout(3600 if STRESS else 600)
def test_each_instant_is_whole(case: Case) -> None:
    log = case.folder / "transactions"
    log.mkdir()
    # Shared memory of parallel workers among the files that are copied, not in /dev/shm.
    with own_network(), running(case, dynamic_shared_memory_type="mmap") as cluster:
        cluster.run("pgbench", "-i", "-q", "-s", "1", "postgres")
        cluster.ask("CREATE EXTENSION amcheck")
        with loaded(cluster, log) as bench:
            for number, mode in enumerate(MODES):
                work_on(cluster, bench)
                before, folder = told(log), case.folder / f"instant{number}"
                dump(case, cluster, folder, mode)
                after = committed(cluster)
                with beside(case, cluster, folder) as restored:
                    check(restored, before, after + NR_CLIENTS)
            work_on(cluster, bench)
            assert int(cluster.ask(END)) == NR_CLIENTS
            bench.wait(60)
        verify(cluster, log)
        cluster.stop()
