"""Controlling terminals of sessions in the tree.

1. When a task has founded its session, and before it gives birth to others, it takes the terminal
   (`take_terminal`): only then do they inherit it.
2. When all groups are there, each leader puts the right one into the foreground
   (`set_foregrounds`). A group that has no process any more can't be; the leader's own stays.
3. Who had given the terminal up (TIOCNOTTY), does so again.

The tasks have every signal blocked, so that none is stopped for being in the background.

Source: ioctl_tty(2), drivers/tty/tty_jobctrl.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, RestoreError
from ckpt.infect.batch import SOCK, Batch

if TYPE_CHECKING:
    from ckpt.files.restore import FilesRestore
    from ckpt.report import Report
    from ckpt.restore.build import Built, Site

_TIOCSPGRP, _TIOCSCTTY, _TIOCNOTTY = 0x5410, 0x540E, 0x5422


def take_terminal(built: Built, lfd: int) -> None:
    """Step 1. `lfd`: our descriptor of the terminal, which nobody controls yet. Raises RestoreError
    where somebody does, as can be with one that was given by --inherit-fd."""
    try:
        _ioctl(built, lfd, _TIOCSCTTY, "controlling terminal")
    except KernelError as error:
        raise RestoreError(
            "its session can't have the terminal that it is given",
            pid=built.pid,
            why=str(error),
            hint="give it one that controls no session yet, as openpty(3) makes it",
        ) from error


def set_foregrounds(site: Site, files: FilesRestore, report: Report) -> None:
    """Steps 2 and 3."""
    tree = site.plan.tree
    groups = {task.pgid: task.sid for task in tree}
    for task in tree:
        lfd = files.terminal_of(task.sid)
        if lfd is None or task.pid not in site.loaded.tasks:
            continue
        built = site.tasks[task.pid]
        own = site.loaded.tasks[task.pid].own.get(task.pid)
        if task.leads_session:
            group = files.foreground_of(task.sid)
            if groups.get(group) == task.sid:
                _ioctl(built, lfd, _TIOCSPGRP, f"group {group} in the foreground", group)
            elif group:
                report.warn(
                    f"session {task.sid}: no process is left of group {group}, which was "
                    "in the foreground of its terminal"
                )
        elif own is not None and own.no_terminal:
            _ioctl(built, lfd, _TIOCNOTTY, "no controlling terminal")


def _ioctl(built: Built, lfd: int, request: int, note: str, value: int | None = None) -> None:
    batch = Batch()
    (slot,) = batch.receive_fds(SOCK, 1)
    argument = 0 if value is None else batch.put(struct.pack("=i", value))
    batch.call("ioctl", slot, request, argument, note=note)
    batch.call("close", slot)
    built.session.run(batch, fds=[lfd])
