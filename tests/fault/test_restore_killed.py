"""The controller of a restore is killed at every operation, from the birth of the root to the end:
nothing of the tree is left, or all of it runs, and the image set serves again.

`make test` takes every so many-th operation, and all of the last ones; `make stress` all.
"""

from __future__ import annotations

import signal
import subprocess

from tests.fault.family import Family
from tests.support.case import Case


def test_killed_at_every_operation(case: Case) -> None:
    family = Family(case)
    family.kill_at_operations(few=20, last=12)
    family.whole_restore("after all")


def test_killed_at_any_moment(case: Case) -> None:
    """The command itself, from its start on, with its figures beside the images."""
    family = Family(case)
    case.ckpt.restore(case.images).ok()
    family.learn()
    family.finish("not killed")
    argv = case.ckpt.argv("restore", "-D", case.images, "-d")
    for step in range(25):
        restore = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            restore.wait(step * 0.02)
        except subprocess.TimeoutExpired:
            restore.send_signal(signal.SIGKILL)
            restore.wait()
        when = f"killed after {step * 20} ms, exit code {restore.returncode}"
        if family.settle(when):
            family.untouched(when)
            family.finish(when)
        else:
            assert restore.returncode == -signal.SIGKILL, when
            family.assert_none_left(when)
    family.whole_restore("after all")
