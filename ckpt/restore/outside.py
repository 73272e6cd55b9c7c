"""What is set through a task's /proc directory, from outside. None of it changes what the task
computes, so where this machine forbids it the restore goes on with a warning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import CkptError
from ckpt.mem import policy
from ckpt.procfs import scalars
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from ckpt.report import Report
    from ckpt.restore.load import TaskImage


def restore_outside(image: TaskImage, report: Report) -> None:
    """Set the values that differ from what the task has now; tell of nodes that are not here."""
    _tell_missing_nodes(image, report)
    tc, own = image.core.tc, image.own.get(image.task.pid)
    wanted = {}
    if tc.HasField("oom_score_adj"):
        wanted["oom_score_adj"] = (tc.oom_score_adj, scalars.parse_oom_score_adj, "%d")
    if own is not None and own.HasField("coredump_filter"):
        wanted["coredump_filter"] = (own.coredump_filter, _filter, "%#x")
    if tc.HasField("loginuid"):
        wanted["loginuid"] = (tc.loginuid, scalars.parse_loginuid, "%d")
    with ProcDir(image.task.pid) as proc:
        for name, (value, parse, form) in wanted.items():
            try:
                now = proc.read_if(name)
                if now is not None and parse(now) != value:
                    proc.write(name, (form % value).encode())
            except CkptError as error:
                report.warn(f"pid {image.task.pid}: {name} stays as it is: {error}")


def _tell_missing_nodes(image: TaskImage, report: Report) -> None:
    """Warn of a task whose NUMA policies want memory of nodes that are not there."""
    wanted = [policy.of_thread(own) for own in image.own.values()]
    wanted += [v.policy for v in image.memory.vmas]
    if any(wanted) and (lost := policy.missing(wanted, policy.nodes_here())):
        report.warn(
            f"pid {image.task.pid}: its NUMA policies want memory of nodes that are not here: "
            f"{', '.join(map(str, policy.numbers(lost)))}"
        )


def _filter(data: bytes) -> int:
    return scalars.parse_coredump_filter(data) or 0
