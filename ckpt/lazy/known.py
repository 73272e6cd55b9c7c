"""The names under which a dump finds who still brings memory to a tree: one for each process that
was restored, beside those of the keepers (ckpt.mem.tracking.where).

Where no name can be made, a dump of the tree is refused until all of its memory is there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import CkptError
from ckpt.mem.tracking import where
from ckpt.procfs.tree import look

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

_BACKLOG = 16


class Known:
    """`listening`: the socket, once there is one."""

    def __init__(self) -> None:
        self.listening: socket.socket | None = None
        self._folder: where.Folder | None = None
        self._names: list[str] = []

    def tell(self, pids: Iterable[int]) -> None:
        """Make the names. A failure is told to syslog(3) and to nobody else."""
        tasks = [task for task in map(look, pids) if task is not None]
        names = [where.missing_name(task.pid, task.starttime) for task in tasks]
        if not names:
            return
        try:
            self._folder = where.made(os.geteuid(), os.environ)
            # Without its lock, which may not be had for long: names of processes that live are
            # removed by nobody, and stale ones by the next keeper.
            self._make(self._folder, names)
        except (CkptError, OSError) as error:
            import syslog

            syslog.syslog(syslog.LOG_ERR, f"ckpt: a lazy restore has no name: {error}")

    def _make(self, folder: where.Folder, names: list[str]) -> None:
        for name in names:
            folder.remove(name)
            if self.listening is None:
                self.listening = folder.listen(name, backlog=_BACKLOG)
            else:
                os.link(names[0], name, src_dir_fd=folder.dirfd, dst_dir_fd=folder.dirfd)
            self._names.append(name)

    def forget(self) -> None:
        """Nobody finds us any more. Harmless where nobody could."""
        if self._folder is None:
            return
        with suppress(OSError):
            for name in self._names:
                self._folder.remove(name)
