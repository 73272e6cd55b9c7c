"""The way to the process that holds the userfaultfds of a lazy restore (ckpt.lazy.holder).

Its socket is `lazy-pages.socket` in the work folder. Two kinds of clients: a restore, which hands
over address spaces, and whoever has the pages. Errors: HolderGone, it has ended; HolderRefused,
which has changed nothing; DeadlineError, it does not answer.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Self

from ckpt.errors import CkptError, DeadlineError, KernelError
from ckpt.mem.extents import Extents
from ckpt.mem.tracking import protocol
from ckpt.mem.tracking.protocol import Message, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ckpt.mem.missing.contents import Contents
    from ckpt.units import Range

SOCKET = "lazy-pages.socket"
VERSION = 1
ANSWER_S = 60.0
_NAP_S = 0.01


class HolderGone(CkptError):
    """The holder has ended."""


class HolderRefused(CkptError):
    """The holder does not do what was asked for; nothing has changed."""


class LostPagesError(CkptError):
    """Pages that are missing can't be had any more; the tree is stopped."""

    exit_code = 5


class Holder:
    """A connection. `close` it, or use it as a context manager."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes `sock`, and closes it if this fails."""
        self._sock = sock
        try:
            self._ask({"op": "hello", "version": VERSION})
        except BaseException:
            sock.close()
            raise

    @classmethod
    def find(cls, folder: Path, *, wait_s: float = 0) -> Holder | None:
        """The holder whose socket is in `folder`, which may come within `wait_s` seconds."""
        until = time.monotonic() + wait_s
        while (sock := connect(folder)) is None:
            if time.monotonic() >= until:
                return None
            time.sleep(_NAP_S)
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It goes on."""
        self._sock.close()

    def hand_over(
        self, pid: int, uffd: int, pidfd: int, ranges: Iterable[Range], *, tracked: bool
    ) -> None:
        """An address space, with the ranges that are registered; the holder gets duplicates."""
        where = Extents.of((r.start, r.end) for r in ranges).to_bytes()
        head: dict[str, object] = {"op": "task", "pid": pid, "tracked": tracked}
        self._ask(head, [where], (uffd, pidfd))

    def serve(self, root_pid: int, *, timeout_s: float | None = None) -> None:
        """All address spaces are there: returns when they are served. That may be when somebody has
        come who has the pages."""
        self._ask({"op": "serve", "root": root_pid}, answer_s=timeout_s)

    def committed(self) -> None:
        """The tree runs."""
        self._ask({"op": "committed"})

    def give(self, contents: Contents) -> bool:
        """The pages; False if somebody has given them already, and they are being brought. Raises
        HolderRefused where they are not those that the tree was restored from."""
        if self._ask({"op": "begin"}).head.get("busy"):
            return False
        for lfd in contents.folders:
            self._ask({"op": "folder"}, fds=(lfd,))
        for one in contents.sources:
            head: dict[str, object] = {
                "op": "source",
                "kind": one.kind,
                "image": one.image,
                "size": one.size,
                "block": one.block,
            }
            self._ask(head, [one.sums, one.trusted], (one.lfd,))
        for pid, runs in contents.runs.items():
            self._ask({"op": "runs", "pid": pid}, [runs])
        first = [list(one) for one in contents.first]
        self._ask({"op": "end", "first": first, "base": contents.base})
        return True

    def wait(self) -> dict[str, object] | None:
        """Until every page is there: figures; None where the pages must be given anew. Raises
        LostPagesError, HolderGone."""
        head = self._ask({"op": "wait"}, answer_s=None).head
        return None if head.get("again") else head

    def status(self) -> dict[str, object]:
        return self._ask({"op": "status"}).head

    def _ask(
        self,
        head: dict[str, object],
        blobs: Sequence[bytes] = (),
        fds: Sequence[int] = (),
        *,
        answer_s: float | None = ANSWER_S,
    ) -> Message:
        try:
            protocol.send(self._sock, head, blobs, fds, timeout_s=ANSWER_S)
            message = protocol.receive(self._sock, first_s=answer_s)
        except TimeoutError as error:
            self.close()
            why = f"{answer_s:g} s" if answer_s else ""
            raise DeadlineError("the server of pages does not answer", why=why) from error
        except ProtocolError as error:
            self.close()
            why = str(error)
            raise KernelError("the server of pages is not understood", why=why) from error
        except OSError as error:
            raise HolderGone("the server of pages is gone", why=error.strerror or "") from error
        if message is None:
            raise HolderGone("the server of pages is gone")
        message.close()
        if "lost" in message.head:
            hint = "put the images back and start ckpt lazy-pages again; the tree is stopped"
            raise LostPagesError("pages can't be had", why=str(message.head["lost"]), hint=hint)
        if "error" in message.head:
            raise HolderRefused("the server of pages refuses", why=str(message.head["error"]))
        return message


def connect(folder: Path) -> socket.socket | None:
    """A connection to the socket in `folder`; None where nobody listens. The path may be too long
    for an address: it goes by a descriptor."""
    lfd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(f"/proc/self/fd/{lfd}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(lfd)
    return sock
