"""Threads with a root, a working directory and a umask of their own (unshare(2) with CLONE_FS).

A thread that is born without CLONE_FS gets a copy of what its creator has at that moment. So the
leader goes to where the thread is to be, bears it, and goes back; all who share its directories
stand meanwhile. It has its powers still, of which another root wants CAP_SYS_CHROOT.

Source: clone(2), copy_fs() in kernel/fork.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ckpt.infect.batch import SOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.files.restore import FilesRestore
    from ckpt.infect.batch import Batch, Load
    from ckpt.restore.load import TaskImage


def directories(image: TaskImage, tid: int) -> Any | None:
    """What a thread has of its own; None where it shares its process's."""
    own = image.own.get(tid)
    if tid == image.task.pid or own is None or not own.HasField("directories"):
        return None
    return own.directories


class Elsewhere:
    """The way of a leader to the directories `there` and back to its own, within one batch, which
    is to be run with `lfds`. Raises ImageError (they are none), RestoreError (they are missing)."""

    def __init__(self, image: TaskImage, there: Any, files: FilesRestore) -> None:
        self._there, self._home = there, image.fs
        ids = (there.root_id, there.cwd_id, image.fs.root_id, image.fs.cwd_id)
        self.lfds = [files.directory_lfd(file_id) for file_id in ids]
        there_root, _, home_root, _ = map(os.fstat, self.lfds)
        self._other_root = not os.path.samestat(there_root, home_root)
        self._slots: Sequence[Load] = ()

    def go(self, batch: Batch) -> None:
        """Add the way there."""
        self._slots = batch.receive_fds(SOCK, len(self.lfds))
        self._enter(batch, self._slots[0], self._slots[1], self._there.umask)

    def come_back(self, batch: Batch) -> None:
        """Add the way back."""
        self._enter(batch, self._slots[2], self._slots[3], self._home.umask)
        for slot in self._slots:
            batch.call("close", slot)

    def _enter(self, batch: Batch, root: Load, cwd: Load, umask: int) -> None:
        if self._other_root:
            batch.call("fchdir", root, note="root of a thread")
            batch.call("chroot", batch.text("."), note="root of a thread")
        batch.call("fchdir", cwd, note="working directory of a thread")
        batch.call("umask", umask)
