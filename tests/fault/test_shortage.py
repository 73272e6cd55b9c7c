"""ckpt itself under a limit of memory that is too low, at every place of a dump where that shows.

Threads are out of reach then as well, since their stacks are. What is said then differs: Python may
not even start, and a foreign library may not survive a failed allocation. tests/unit has the
messages; here it counts that the target is unharmed, and that no set looks whole.
"""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

from tests.support.case import Case
from tests.support.ckptcmd import CKPT
from tests.support.programs import program
from tests.support.victim import Victim
from tests.support.visible import look, looks_as
from tests.support.waiting import wait_until

MIB = 1 << 20
STEP = MIB // 2 if os.environ.get("CKPT_STRESS") else 6 * MIB
FIRST, MOST = 10 * MIB, 1024 * MIB


def dump_within(limit: int, victim: Victim, images: Path) -> subprocess.CompletedProcess[str]:
    """A dump that leaves the victim running, with so many bytes of address space."""
    argv = [str(CKPT), "dump", "-t", str(victim.pid), "-D", str(images), "--leave-running"]
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )


def test_too_little_memory(case: Case) -> None:
    victim = case.start(program("memory/private"))
    before = look(victim.pid, exact=True)
    case.images.mkdir()
    told = 0
    for limit in range(FIRST, MOST, STEP):
        run = dump_within(limit, victim, case.images)
        # Where ckpt has crashed, the target cures itself a moment later.
        wait_until(victim.pid, lambda: looks_as(before, victim.pid), 60)
        if not run.returncode:
            break
        assert not (case.images / "inventory.img").exists(), "a failed dump looks whole"
        told += "ckpt itself gets no more" in run.stderr
    else:
        raise AssertionError("no limit was enough")
    assert told, "it never came as far as ckpt"
    victim.finish()
