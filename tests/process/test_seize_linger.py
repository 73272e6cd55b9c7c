"""Threads that stand at a bad moment run on for an instant, while the others stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ckpt.tracee import freeze
from ckpt.tracee.freeze import seize
from tests.process.test_seize import DEADLINE_S, python, started
from tests.support import processes

if TYPE_CHECKING:
    from ckpt.tracee.stopped import SeizedTask


BEARS = """
import threading
threading.Thread(target=signal.pause, daemon=True).start()
print("ready", flush=True)
for n in range(1 << 40):
    if n % 50_000 == 0 and n < 1_000_000 and not os.fork():
        os._exit(len(sys.stdin.read()))
"""


def test_one_may_linger_until_all_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on until the caller is content; then all stand, and who was born meanwhile."""
    monkeypatch.setattr(freeze, "LINGER_S", DEADLINE_S)
    places: list[bytes] = []

    def lingering(task: SeizedTask) -> list[int]:
        main = task.threads[0]
        if task.pid != process.pid:
            return []
        places.append(main.regs)
        return [main.tid] if len(set(places)) < 5 else []

    with started(*python(BEARS)) as process:
        with seize(process.pid, deadline_s=DEADLINE_S, lingering=lingering) as tree:
            assert len(set(places)) == 5
            assert set(processes.tree(process.pid)) == set(tree.tasks)
            alive = [task.pid for task in tree.tasks.values() if not task.zombie]
            assert {processes.state(pid) for pid in alive} == {"t"}
            assert tree.tasks[process.pid].threads[0].regs == places[-1]
        assert processes.state(process.pid) != "t"


def test_nobody_lingers_for_ever() -> None:
    with (
        started(*python("print('ready', flush=True)\nwhile True: pass")) as process,
        seize(process.pid, deadline_s=DEADLINE_S, lingering=lambda task: [task.pid]) as tree,
    ):
        assert list(tree.tasks) == [process.pid]
        assert processes.state(process.pid) == "t"
