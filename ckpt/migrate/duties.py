"""What the messengers of the two sides know of the agreement between them.

The source's, from the frame `pids` on: these tasks are about to be such that they stop when its
principal ends. Is it killed then, the messenger is who sees to them. Before `go` it has them go on,
and the end of the connection tells the destination so. After `go` it waits for the answer in its
principal's place, and kills them or has them go on. Without an answer they stay as they are.

The destination's: the guard over its tasks (ckpt.restore.guard) says by one byte into `verdict`
whether they live on, and that is what the source is told. Where no guard was ever started, the pipe
ends without a byte, and the tasks have died with the principal.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import PeerError
from ckpt.migrate import folders
from ckpt.migrate.messenger import Duty, Post
from ckpt.migrate.wire import Frame, receive
from ckpt.restore.guard import LET_GO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMITTED, ABORTED = "committed", "aborted"
"""Kinds of frames, and names of the files that say so after the end of the connection."""


class SourceDuty(Duty):
    """`thawed`: what is to be done when the principal was killed and its tree runs on here.
    `scratch` is removed at the end."""

    def __init__(self, scratch: Path, thawed: Callable[[], None]) -> None:
        self._scratch = scratch
        self._thawed = thawed
        self._pidfds: list[int] = []
        self._go = self._over = self._thanked = self._lazy = False
        self._answer = ""

    def from_principal(self, frame: Frame, post: Post) -> None:
        if frame.kind == "pids":
            self._pidfds = [os.pidfd_open(pid) for pid in frame.numbers("pids")]
            self._lazy = frame.flag("lazy")
            post.to_principal(Frame("pids"))
        elif frame.kind == "over":
            self._over = True
        elif not post.to_peer(frame):
            post.peer_lost = True
            self.peer_gone(post)
        else:
            self._go = self._go or frame.kind == "go"
            self._thanked = self._thanked or frame.kind == "thanks"

    def from_peer(self, frame: Frame, post: Post) -> None:
        self._hear(frame)
        post.to_principal(frame)

    def peer_gone(self, post: Post) -> None:
        post.to_principal(Frame("lost"))

    def watched_ready(self, post: Post) -> None:
        raise NotImplementedError

    def principal_gone(self, post: Post) -> None:
        if not self._over:
            self._end(post)
        folders.remove(self._scratch)

    def _end(self, post: Post) -> None:
        if self._go:
            with suppress(PeerError):
                while not self._answer:
                    self._hear(receive(post.peer))
        if not self._go or self._answer == ABORTED:
            self._send(signal.SIGCONT)
            post.to_peer(Frame("failed", {"why": "the source was killed, its tree runs on"}))
            with suppress(Exception):
                self._thawed()
        elif self._answer == COMMITTED:
            # Memory that has not gone over yet is nowhere else: then it is left, stopped.
            if not self._lazy:
                self._send(signal.SIGKILL)
            if not self._thanked:
                post.to_peer(Frame("thanks"))

    def _hear(self, frame: Frame) -> None:
        if frame.kind in (COMMITTED, ABORTED):
            self._answer = frame.kind

    def _send(self, number: int) -> None:
        for pidfd in self._pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)


class DestinationDuty(Duty):
    """`verdict` is the reading end of the guard's pipe; `folder` has the images, which are removed
    unless they may be all that is left of the tree; who brings memory later does it then."""

    def __init__(self, folder: Path, verdict: int) -> None:
        self._folder = folder
        self.watched = verdict
        self._ready = self._told = self._committed = False
        self._go = self._doubtful = self._thanked = self._called_off = self._lazy = False

    def from_principal(self, frame: Frame, post: Post) -> None:
        self._ready = self._ready or frame.kind == "ready"
        if frame.kind in ("failed", ABORTED):
            # What fails behind the guard's leave has not ended the tasks.
            if self.watched >= 0 and _readable(self.watched):
                self._read_verdict(post)
            if self._committed:
                return
            self._told = True
        if not post.to_peer(frame):
            post.peer_lost = True
            self.peer_gone(post)

    def from_peer(self, frame: Frame, post: Post) -> None:
        self._go = self._go or frame.kind == "go"
        self._lazy = self._lazy or frame.fields.get("lazy") is True
        self._called_off = self._called_off or frame.kind == "failed"
        if frame.kind == "thanks":
            self._thanked = True
        else:
            post.to_principal(frame)

    def peer_gone(self, post: Post) -> None:
        self._doubtful = self._ready and not self._told and not self._called_off
        post.to_principal(Frame("lost"))

    def watched_ready(self, post: Post) -> None:
        self._read_verdict(post)

    def principal_gone(self, post: Post) -> None:
        if self.watched >= 0:
            self._read_verdict(post)
        if not self._committed and not self._told:
            self._told = post.to_peer(Frame(ABORTED, {"why": "its builder there was killed"}))
        if self._committed:
            self._await_thanks(post)
        elif self._doubtful or (self._go and not self._told):
            self._mark(ABORTED)
        else:
            folders.remove(self._folder)

    def _read_verdict(self, post: Post) -> None:
        """Waits for the guard's end at most, which is at hand."""
        said = os.read(self.watched, 1)
        os.close(self.watched)
        self.watched = -1
        self._committed = said == LET_GO
        if self._committed:
            self._mark(COMMITTED)
            post.to_peer(Frame(COMMITTED))

    def _mark(self, name: str) -> None:
        with suppress(OSError):
            os.close(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _await_thanks(self, post: Post) -> None:
        """The mark of the commitment stays for a source that did not hear of it."""
        with suppress(PeerError):
            while not self._thanked:
                self._thanked = receive(post.peer).kind == "thanks"
        if self._lazy:
            # Who brings the memory removes the rest, and may have been there already.
            if self._thanked:
                with suppress(OSError):
                    (self._folder / COMMITTED).unlink()
                    self._folder.rmdir()
            return
        for entry in self._folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                folders.remove(entry)
        if self._thanked:
            folders.remove(self._folder)


def _readable(lfd: int) -> bool:
    return bool(select.select([lfd], [], [], 0)[0])
