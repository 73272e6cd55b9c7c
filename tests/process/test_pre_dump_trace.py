"""A pre-dump freezes nothing: seen in a trace of its own ptrace requests.

The first one stops the victim for its infection. Later ones attach to no thread that sleeps in a
call without pages of its own, and to others (here: one that computes) one at a time, each let go
before the next.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim

_REQUEST = re.compile(r"ptrace\((PTRACE_[A-Z_]+|0x[0-9a-f]+[^,]*), (\d+)")


def traced_pre_dump(case: Case, victim: Victim, number: int) -> list[tuple[str, int]]:
    """The ptrace requests of one pre-dump: what, and to which thread."""
    folder = case.folder / str(number)
    folder.mkdir()
    trace = case.folder / f"trace{number}"
    prev = ["--prev-images-dir", f"../{number - 1}"] if number > 1 else []
    ckpt = case.ckpt.argv("pre-dump", "-t", victim.pid, "-D", folder, *prev)
    done = subprocess.run(
        ["strace", "-f", "-q", "-e", "trace=ptrace", "-o", str(trace), *ckpt],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [(what, int(tid)) for what, tid in _REQUEST.findall(Path(trace).read_text())]


@pytest.mark.parametrize("spinning", [0, 1])
def test_no_thread_is_stopped_with_another(case: Case, spinning: int) -> None:
    require(shutil.which("strace") is not None, "strace is not installed")
    victim = case.start(program("chain/spin", str(spinning)))
    (case.folder / "1").mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", case.folder / "1").ok()
    for number in (2, 3):
        attached: set[int] = set()
        ever: set[int] = set()
        for what, tid in traced_pre_dump(case, victim, number):
            if what == "PTRACE_SEIZE":
                assert not attached, f"{tid} while {attached} is attached"
                attached.add(tid)
                ever.add(tid)
            elif what == "PTRACE_DETACH":
                attached.discard(tid)
        assert not attached
        assert len(ever) == spinning, ever
    case.ckpt.run("untrack", victim.pid).ok()
    victim.finish()
