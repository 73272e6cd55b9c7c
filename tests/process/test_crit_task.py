"""Debian's crit reads what a dump says of timers, scheduling and filters."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.requirements import require
from tests.support.case import Case
from tests.support.programs import program

SIGRTMIN = 34
CPU_CLOCK_OF_PROCESS = -6
ERRNO_RET = 0x00050000


def entries(case: Case, name: str) -> Any:
    require(shutil.which("crit"), "crit is not installed")
    done = subprocess.run(
        ["crit", "decode", "-i", case.images / f"{name}.img"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["entries"]


def entry(case: Case, name: str) -> Any:
    return entries(case, name)[0]


def test_timers(case: Case) -> None:
    victim = case.start(program("time/posix_timers"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    timers = entry(case, f"core-{victim.pid}")["tc"]["timers"]
    assert timers["real"] == {"isec": 0, "iusec": 0, "vsec": 0, "vusec": 0}
    posix = timers["posix"]
    assert [timer["it_id"] for timer in posix] == list(range(5, 53, 6))
    assert [timer["it_sigev_notify"] for timer in posix] == [0, 1, 0, 0, 0, 0, 0, 4]
    assert posix[6]["clock_id"] == CPU_CLOCK_OF_PROCESS & 0xFFFFFFFF
    assert (posix[0]["insec"], posix[0]["si_signo"]) == (9999, SIGRTMIN)
    assert 900 < posix[0]["vsec"] <= 1000
    victim.finish()


def test_policy(case: Case) -> None:
    victim = case.start(program("task/policy", "rr-reset"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    tids = {int(path.name) for path in Path(f"/proc/{victim.pid}/task").iterdir()} - {victim.pid}
    core = entry(case, f"core-{tids.pop()}")["thread_core"]
    assert (core["sched_policy"], core["sched_prio"]) == (2, 3)
    victim.finish()


def test_filters(case: Case) -> None:
    victim = case.start(program("task/seccomp", "thread"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    filters = entry(case, "seccomp")["seccomp_filters"]
    assert [one.get("prev") for one in filters] == [None, 0, 1]
    core = entry(case, f"core-{victim.pid}")["thread_core"]
    assert core["seccomp_mode"] in (2, "filter")
    assert core["seccomp_filter"] == 1
    victim.finish()


def test_locks(case: Case) -> None:
    """Numbers of include/linux/filelock.h; a lock of a shared description is there once."""
    victim = case.start(program("files/locks_ofd"))
    case.ckpt.dump(victim.pid, case.images, "-R", "--file-locks").ok()
    (first, second) = entries(case, "filelocks")
    assert (first["flag"], first["type"], first["start"], first["len"]) == (1024, 1, 0, 10)
    assert (second["flag"], second["type"], second["start"], second["len"]) == (1024, 0, 100, 0)
    assert first["pid"] == second["pid"] == victim.pid
    victim.finish()
