"""The way to the process that holds the userfaultfds of a lazy restore (ckpt.lazy.holder).

Its socket is `lazy-pages.socket` in the work folder. Two kinds of clients: a restore, which hands
over address spaces, and whoever has the pages. Errors: HolderGone, it has ended; HolderRefused,
which has changed nothing; DeadlineError, it does not answer.

A restore does not wait for each answer: it goes on, and `settle` takes those that are due, in the
order of the requests.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from ckpt.errors import CkptError, DeadlineError, KernelError
from ckpt.mem.extents import Extents
from ckpt.mem.tracking import protocol
from ckpt.mem.tracking.protocol import Message, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ckpt.mem.missing.contents import Contents
    from ckpt.mem.missing.split import Share
    from ckpt.units import Range

SHARE = struct.Struct("=4Q")
"""start, end, number of the object, place there."""

SOCKET = "lazy-pages.socket"
VERSION = 4
ANSWER_S = 60.0
_NR_DUE_MAX = 64
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

    def __init__(self, sock: socket.socket, starter_pid: int = 0) -> None:
        """Takes `sock`, and closes it if this fails. `starter_pid`: a child of ours that is about
        to start the holder, and to end."""
        self._sock = sock
        self._starter_pid = starter_pid
        self._nr_due = 0
        try:
            self._post({"op": "hello", "version": VERSION})
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
        holder = cls(sock)
        try:
            holder.settle()
        except BaseException:
            holder.close()
            raise
        return holder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """It goes on."""
        self._sock.close()
        self._reap()

    def hand_over(
        self,
        pid: int,
        uffd: int,
        pidfd: int,
        ranges: Iterable[Range],
        soon: Iterable[Range],
        *,
        tracked: bool,
    ) -> None:
        """An address space, with the ranges that are registered, and what to bring first, in order;
        the holder gets duplicates. Does not wait for the answer."""
        blobs = [Extents.of((r.start, r.end) for r in rs).to_bytes() for rs in (ranges, soon)]
        head: dict[str, object] = {"op": "task", "pid": pid, "tracked": tracked}
        self._post(head, blobs, (uffd, pidfd))

    def hand_over_object(self, shmid: int, lfd: int, size: int) -> None:
        """Shared memory that comes late; the holder gets a duplicate. Does not wait for the
        answer."""
        self._post({"op": "object", "shmid": shmid, "size": size}, fds=(lfd,))

    def hand_over_shares(self, pid: int, uffd: int, pidfd: int, shares: Iterable[Share]) -> None:
        """The mappings of it in one task, which are registered with a userfaultfd of their own;
        after the objects. Does not wait for the answer."""
        rows = b"".join(SHARE.pack(s.range.start, s.range.end, s.shmid, s.at) for s in shares)
        self._post({"op": "shares", "pid": pid}, [rows], (uffd, pidfd))

    def serve(self, root_pid: int) -> None:
        """All address spaces are there. `settle` returns when they are served: that may be when
        somebody has come who has the pages."""
        self._post({"op": "serve", "root": root_pid})

    def committed(self) -> None:
        """The tree runs."""
        self._ask({"op": "committed"})

    def give(self, contents: Contents) -> bool:
        """The pages; False if somebody has given them already, and they are being brought. Raises
        HolderRefused where they are not those that the tree was restored from."""
        if self._ask({"op": "begin"}).head.get("busy"):
            return False
        self._tell(contents)
        self.settle()
        return True

    def offer(self, contents: Contents) -> None:
        """The pages, of a holder that has got none yet. Does not wait for the answers."""
        self._post({"op": "begin"})
        self._tell(contents)

    def _tell(self, contents: Contents) -> None:
        for lfd in contents.folders:
            self._post({"op": "folder"}, fds=(lfd,))
        for one in contents.sources:
            head: dict[str, object] = {
                "op": "source",
                "kind": one.kind,
                "image": one.image,
                "size": one.size,
                "block": one.block,
            }
            self._post(head, [one.sums, one.trusted], (one.lfd,))
        for pid, runs in contents.runs.items():
            self._post({"op": "runs", "pid": pid}, [runs])
        for shmid, runs in contents.objects.items():
            self._post({"op": "object-runs", "shmid": shmid}, [runs])
        self._post({"op": "end", "base": contents.base}, [contents.packed_first()])

    def wait(self) -> dict[str, object] | None:
        """Until every page is there: figures; None where the pages must be given anew. Raises
        LostPagesError, HolderGone."""
        head = self._ask({"op": "wait"}, answer_s=None).head
        return None if head.get("again") else head

    def await_end(self) -> None:
        """Until it has ended: everything has come, or nobody needs it any more."""
        self.settle()
        with suppress(CkptError):
            while True:
                self._nr_due += 1
                self._answer(None)

    def status(self) -> dict[str, object]:
        return self._ask({"op": "status"}).head

    def settle(self, *, timeout_s: float = ANSWER_S) -> None:
        """Take every answer that is due. Raises the first error among them."""
        first: CkptError | None = None
        while self._nr_due:
            try:
                self._answer(timeout_s)
            except (HolderRefused, LostPagesError) as error:
                first = first or error
        if first is not None:
            raise first

    def _ask(self, head: dict[str, object], *, answer_s: float | None = ANSWER_S) -> Message:
        self.settle()
        self._post(head)
        return self._answer(answer_s)

    def _post(
        self, head: dict[str, object], blobs: Sequence[bytes] = (), fds: Sequence[int] = ()
    ) -> None:
        """Send a request. The other side must never wait for room for its answers."""
        if self._nr_due == _NR_DUE_MAX:
            self.settle()
        with self._reported(ANSWER_S):
            protocol.send(self._sock, head, blobs, fds, timeout_s=ANSWER_S)
        self._nr_due += 1

    def _answer(self, answer_s: float | None) -> Message:
        with self._reported(answer_s):
            message = protocol.receive(self._sock, first_s=answer_s)
        if message is None:
            self._nr_due = 0
            raise HolderGone("the server of pages is gone")
        self._nr_due -= 1
        self._reap()
        message.close()
        if "lost" in message.head:
            hint = "put the images back and start ckpt lazy-pages again; the tree is stopped"
            raise LostPagesError("pages can't be had", why=str(message.head["lost"]), hint=hint)
        if "error" in message.head:
            raise HolderRefused("the server of pages refuses", why=str(message.head["error"]))
        return message

    @contextmanager
    def _reported(self, answer_s: float | None) -> Iterator[None]:
        """What goes wrong on the connection is an error of ours, after which nothing is due."""
        try:
            yield
        except TimeoutError as error:
            self._break_off()
            why = f"{answer_s:g} s" if answer_s else ""
            raise DeadlineError("the server of pages does not answer", why=why) from error
        except ProtocolError as error:
            self._break_off()
            why = str(error)
            raise KernelError("the server of pages is not understood", why=why) from error
        except OSError as error:
            self._nr_due = 0
            raise HolderGone("the server of pages is gone", why=error.strerror or "") from error

    def _break_off(self) -> None:
        self._nr_due = 0
        self.close()

    def _reap(self) -> None:
        if self._starter_pid:
            os.waitpid(self._starter_pid, 0)
            self._starter_pid = 0


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
