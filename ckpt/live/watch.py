"""Staying with the tree while its memory is copied (ckpt/_native/src/watch.h).

The tree runs, and is still seized by this thread: the end of a task waits until its memory was
copied. With `calls`, so does every call that takes memory away. Each stop waits for this thread,
so nothing else may be done in it meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckpt.live.server import Server
    from ckpt.tracee.freeze import SeizedTree

_LOOK_MS = 200
"""A handler of a signal runs in the main thread only when that comes back from C."""


class Watch:
    """One tree. The scope that has seized it lets go of it."""

    def __init__(self, tree: SeizedTree, server: Server, indexes: Mapping[int, int]) -> None:
        """`indexes`: of the memory of each task, as the server has it."""
        self._tree = tree
        self._server = server
        self._watch = lib.ckpt_watch_new(server.native)
        if self._watch == ffi.NULL:
            raise KernelError("the tree can't be watched", why="no memory or no descriptor left")
        self._watch = ffi.gc(self._watch, lib.ckpt_watch_free)
        for tid, pid, group_stop in tree.standing():
            index = indexes.get(pid, -1)
            check(lib.ckpt_watch_add(self._watch, tid, pid, index, group_stop), "watch")

    def resume(self, *, calls: bool) -> None:
        """Let the tree run."""
        lib.ckpt_watch_resume(self._watch, calls)
        self._tree.runs()

    def run(self) -> None:
        """Until the server has all. Raises as Server.is_whole does."""
        while not self._server.is_whole():
            if lib.ckpt_watch_run(self._watch, _LOOK_MS):
                self._server.heard()
