"""Perl processes that talk by System V semaphores and messages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.fault.injection import eventually
from tests.requirements import require
from tests.support import sysvobj
from tests.support.case import Case

SCRIPT = Path(__file__).with_name("ipc.pl")
COUNT, MODULUS = 1, 30_000


def has_modules() -> bool:
    command = ["perl", "-MIPC::SysV", "-e", "1"]
    found = shutil.which("perl") is not None
    return found and subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_semaphores_and_messages_of_perl(case: Case) -> None:
    """Moved as to another machine, where its set and queue are not; back on the same one; and
    taken back to an earlier instant, after which it had gone on. No message is lost or comes twice,
    and nobody ever is under the mutex with another one, or never."""
    require(has_modules(), "perl with IPC::SysV is not installed")
    victim = case.start_command("perl", str(SCRIPT))
    victim.wait_ready()
    ids = dict(
        zip(("sem", "msg"), map(int, (victim.folder / "ids").read_text().split()), strict=True)
    )

    def restore(images: Path) -> None:
        case.ckpt.restore(images).ok()
        before = sysvobj.value(ids["sem"], COUNT)
        assert eventually(lambda: sysvobj.value(ids["sem"], COUNT) != before), victim.out

    try:
        for cycle, moved in enumerate((True, False)):
            images = case.folder / f"cycle{cycle}"
            images.mkdir()
            pids = victim.tree
            case.ckpt.dump(victim.pid, images).ok()
            victim.await_gone(pids)
            for kind, ident in ids.items() if moved else ():
                sysvobj.remove(kind, ident)
            restore(images)
        case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
        before = sysvobj.value(ids["sem"], COUNT)
        assert eventually(lambda: sysvobj.value(ids["sem"], COUNT) != before), victim.out
        pids = victim.tree
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        victim.await_gone(pids)
        restore(case.images)
        victim.finish()
    finally:
        for kind, ident in ids.items():
            sysvobj.remove(kind, ident)
    said = [line.split() for line in victim.out.splitlines() if line != "EXIT-SUCCESS"]
    counts = [int(number) for what, number in said if what == "counted"]
    assert len(counts) == 2 and ["count", str(sum(counts) % MODULUS)] in said
    assert sum(what == "received" and int(number) > 0 for what, number in said) == 1
