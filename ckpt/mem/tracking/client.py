"""The client's side of the keeper.

One thread of one process uses a connection at a time. `find` tells whether a tree is tracked;
whoever finds nobody, although the last dump was incremental, has to dump everything.

Errors: KeeperGone, the keeper ended, and with it all that it knew; KeeperBusy, another ckpt uses
it; KeeperRefused, which has changed nothing; DeadlineError, it does not answer.

Not guaranteed: that a keeper found is of this version of ckpt; `find` raises then and says how to
end it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ckpt.errors import CkptError, DeadlineError, KernelError, TargetError
from ckpt.mem.extents import Extents
from ckpt.mem.tracking import protocol, where
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.protocol import Message, ProtocolError
from ckpt.mem.tracking.serving import peer
from ckpt.mem.tracking.state import Answer
from ckpt.procfs.tree import look
from ckpt.record import record
from ckpt.scope import Closing

ANSWER_S = 30.0
_BACKLOG = 16
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")


class KeeperGone(CkptError):
    """The keeper has ended: the next dump must be a whole one."""


class KeeperBusy(CkptError):
    """Another ckpt uses the keeper."""


class KeeperRefused(CkptError):
    """The keeper does not do what was asked for; nothing has changed."""


@record(frozen=True)
class Known:
    """A tracked process."""

    start_time: int
    io_contexts: bool


@record(frozen=True)
class Lent:
    """An address space that its keeper has lent: whoever has it must serve `uffd`, a duplicate. The
    sets are as in ckpt.mem.tracking.state; `owed` are those that are pending, too."""

    uffd: int
    owed: Extents
    stored: Extents
    io_contexts: bool


class Returned(NamedTuple):
    """What became of it: `ranges`, `written` and `populated` of one instant, as a round has them,
    all that the borrower has protected again among `written`; `moved`: where memory has come to
    since."""

    ranges: Extents
    written: Extents
    populated: Extents
    moved: Extents


@record(frozen=True)
class TaskStatus:
    """Sizes of the sets of one address space, in pages; see ckpt.mem.tracking.state."""

    io_contexts: bool
    nr_stored: int
    nr_owed: int
    nr_pending: int


@record(frozen=True)
class Status:
    """`keeper_pid`: SIGTERM to it is the same as `untrack`."""

    root_pid: int
    keeper_pid: int
    mode: Mode
    base: str | None
    tasks: dict[int, TaskStatus]


class Keeper(Closing):
    """A connection. `base` is as the keeper said at the start or the last commit; `lost` says why
    tasks of the last round are no longer tracked."""

    def __init__(self, sock: socket.socket) -> None:
        """Takes `sock`, and closes it if this fails."""
        self._sock = sock
        self._round = 0
        self.lost: dict[int, str] = {}
        try:
            hello = self._ask({"op": "hello", "version": protocol.VERSION})
            self.mode = Mode(hello.get("mode", str))
            base = hello.head.get("base")
            self.base = None if base is None else protocol.checked(base, str, "base")
        except (ProtocolError, ValueError) as error:
            self.close()
            raise _not_understood(error) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def find(cls, root_pid: int) -> Keeper | None:
        """The keeper of the tree below this very process; None: there is none. Stale sockets are
        removed on the way."""
        task = look(root_pid)
        if task is None:
            return None
        name = where.socket_name(root_pid, task.starttime)
        for folder in where.existing(os.geteuid(), os.environ):
            sock = folder.connect(name)
            if sock is None:
                with folder.locked():
                    sock = folder.connect(name)
                    if sock is None:
                        folder.remove(name)
                        continue
            try:
                return cls(_from_us(sock))
            except KeeperGone:
                continue  # it ended while we looked
        return None

    @classmethod
    def start(cls, root_pid: int, mode: Mode) -> Keeper:
        """A new keeper, which tracks nothing yet. CkptError where there is one already."""
        task = look(root_pid)
        if task is None:
            raise TargetError("it has ended", pid=root_pid)
        name = where.socket_name(root_pid, task.starttime)
        with where.made(os.geteuid(), os.environ) as folder:
            with folder.locked():
                there = folder.connect(name)
                if there is not None:
                    there.close()
                    raise CkptError("it is tracked already", pid=root_pid, hint="ckpt untrack PID")
                folder.remove(name)
                folder.sweep()
                listening = folder.listen(name, backlog=_BACKLOG)
            with listening:
                try:
                    _spawn(root_pid, task.starttime, mode, listening, folder.dirfd, name)
                except BaseException:
                    folder.remove(name)
                    raise
            sock = folder.connect(name)
        if sock is None:
            raise KernelError("the keeper ended at once", pid=root_pid, why="see the system's log")
        return cls(sock)

    def close(self) -> None:
        """Let others use it; tracking goes on."""
        self._sock.close()

    def tracked(self) -> dict[int, Known]:
        """The processes whose memory is still the one that was handed over."""
        rows = self._rows(self._ask({"op": "tracked"}), "tracked", int, int, bool)
        return {pid: Known(start_time, contexts) for pid, start_time, contexts in rows}

    def adopt(self, pid: int, start_time: int, uffd: int, pagemap: int) -> None:
        """Hand a process over: the keeper gets duplicates of both descriptors. KeeperRefused: it is
        not the process any more that had this start time."""
        head: dict[str, object] = {"op": "adopt", "pid": pid, "start_time": start_time}
        self._ask(head, fds=(uffd, pagemap))

    def inherit(
        self,
        pid: int,
        start_time: int,
        uffd: int,
        pagemap: int,
        *,
        base: str,
        ranges: Extents,
        stored: Extents,
    ) -> None:
        """Hand a process over that stands, and was made from the image set `base`: `stored` of it
        is unchanged. `ranges`, one for each mapping, are watched from here on. Else as `adopt`."""
        head: dict[str, object] = {
            "op": "inherit",
            "pid": pid,
            "start_time": start_time,
            "base": base,
        }
        self._ask(head, [ranges.to_bytes(), stored.to_bytes()], (uffd, pagemap))
        self.base = base

    def round(
        self,
        wanted: Mapping[int, Extents],
        *,
        rearm: bool,
        answer_s: float = ANSWER_S,
        rooms: Mapping[int, Extents] | None = None,
    ) -> dict[int, Answer]:
        """What of `wanted`, one range for each mapping, was written; with `rearm` it is watched
        from here on. `rooms`: of mem.room, of those who run. Who is missing in the answer is not
        tracked (any more). After `answer_s` seconds without an answer the connection is lost
        (DeadlineError)."""
        head: dict[str, object] = {
            "op": "round",
            "rearm": rearm,
            "tasks": [[pid] for pid in wanted],
        }
        none = Extents.none()
        blobs = [
            pages.to_bytes()
            for pid, ranges in wanted.items()
            for pages in (ranges, (rooms or {}).get(pid, none))
        ]
        message = self._ask(head, blobs, answer_s=answer_s)
        try:
            self._round = message.get("round", int)
            self.lost = dict(message.rows("lost", int, str))
            rows = message.rows("answers", int, bool)
            if len(message.blobs) != 4 * len(rows):
                raise ProtocolError("pages are missing")
            sets = iter([Extents.from_bytes(blob) for blob in message.blobs])
        except (ProtocolError, ValueError) as error:
            raise _not_understood(error) from error
        return {
            pid: Answer(next(sets), next(sets), next(sets), next(sets), contexts)
            for pid, contexts in rows
        }

    def lend(self, pid: int) -> Lent:
        """Serve an address space in the keeper's place, until `give_back` or the end of this
        connection, which an answer that can't be read is: its faults would wait for ever.
        KeeperRefused: it is not tracked (any more), or asynchronously."""
        message = self._ask({"op": "lend", "pid": pid}, keep_fds=True)
        try:
            if len(message.fds) != 1 or len(message.blobs) != 2:
                raise ProtocolError("a descriptor and two sets are wanted")
            owed, stored = (Extents.from_bytes(blob) for blob in message.blobs)
            contexts = message.get("io_contexts", bool)
            return Lent(message.fds.pop(), owed, stored, contexts)
        except (ProtocolError, ValueError) as error:
            self.close()
            raise _not_understood(error) from error
        finally:
            message.close()

    def give_back(self, returned: Mapping[int, Returned]) -> None:
        """Nobody serves them here any more. This is a round, to be committed as any other."""
        head: dict[str, object] = {"op": "give_back", "tasks": [[pid] for pid in returned]}
        blobs = [pages.to_bytes() for one in returned.values() for pages in one]
        message = self._ask(head, blobs)
        try:
            self._round = message.get("round", int)
            self.lost = dict(message.rows("lost", int, str))
        except ProtocolError as error:
            raise _not_understood(error) from error

    def commit(
        self,
        set_id: str,
        stored: Mapping[int, Extents],
        *,
        settled: Mapping[int, bool],
        io_contexts: Mapping[int, bool],
    ) -> None:
        """The image set `set_id` is whole, and holds what our last round demanded; the arguments
        are those of ckpt.mem.tracking.state. KeeperRefused: another round came in between."""
        tasks = [[pid, settled.get(pid, False), io_contexts.get(pid, False)] for pid in stored]
        head: dict[str, object] = {"op": "commit", "round": self._round, "set": set_id}
        self._ask({**head, "tasks": tasks}, [pages.to_bytes() for pages in stored.values()])
        self.base = set_id

    def untrack(self) -> None:
        """End the keeper. When this returns no protection is left, and `find` finds nothing."""
        try:
            self._ask({"op": "untrack"})
        except KeeperGone:
            self.close()
        else:
            raise KernelError("the keeper goes on", why="it was told to end")

    def status(self) -> Status:
        message = self._ask({"op": "status"})
        rows = self._rows(message, "tasks", int, bool, int, int, int)
        try:
            return Status(
                root_pid=message.get("root", int),
                keeper_pid=message.get("pid", int),
                mode=Mode(message.get("mode", str)),
                base=self.base,
                tasks={row[0]: TaskStatus(*row[1:]) for row in rows},
            )
        except (ProtocolError, ValueError) as error:
            raise _not_understood(error) from error

    def _rows(self, message: Message, key: str, *kinds: type) -> list[list[Any]]:
        try:
            return message.rows(key, *kinds)
        except ProtocolError as error:
            raise _not_understood(error) from error

    def _ask(
        self,
        head: dict[str, object],
        blobs: Sequence[bytes] = (),
        fds: Sequence[int] = (),
        *,
        answer_s: float = ANSWER_S,
        keep_fds: bool = False,
    ) -> Message:
        """Send a request and wait for its answer, whose descriptors are closed, unless they are
        kept. Where that does not come, or not whole, the
        connection is closed: what came later would pass for the answer to another request."""
        try:
            protocol.send(self._sock, head, blobs, fds, timeout_s=answer_s)
            rest_s = min(answer_s, protocol.MESSAGE_S)
            message = protocol.receive(self._sock, first_s=answer_s, rest_s=rest_s)
        except TimeoutError as error:
            self.close()
            raise DeadlineError("the keeper does not answer", why=f"{answer_s:g} s") from error
        except ProtocolError as error:
            self.close()
            raise _not_understood(error) from error
        except OSError as error:
            self.close()
            raise KeeperGone("the keeper has ended", why=error.strerror or "") from error
        if message is None:
            raise KeeperGone("the keeper has ended")
        if "error" in message.head or not keep_fds:
            message.close()
        if "error" in message.head:
            text = str(message.head["error"])
            if message.head.get("busy"):
                raise KeeperBusy("the keeper can't be used", why=text)
            raise KeeperRefused("the keeper refuses", why=text)
        return message


def _not_understood(error: Exception) -> KernelError:
    return KernelError("the keeper's answer is not understood", why=str(error))


def _from_us(sock: socket.socket) -> socket.socket:
    """`sock`, if the one who listens there is the user that we are."""
    uid = peer(sock)[1]
    if uid != os.geteuid():
        sock.close()
        raise KernelError("somebody else poses as the keeper", why=f"user {uid}")
    return sock


def _spawn(
    root_pid: int, start_time: int, mode: Mode, listening: socket.socket, folder: int, name: str
) -> None:
    """Start the process that becomes the keeper; the child that we started ends at once."""
    lfds = (listening.fileno(), folder)
    numbers = [str(number) for number in (root_pid, start_time, mode.value, *lfds)]
    command = [sys.executable, "-P", "-m", "ckpt.mem.tracking.keeper", *numbers, name]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={key: os.environ[key] for key in _ENVIRONMENT if key in os.environ},
            pass_fds=lfds,
            start_new_session=True,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelError("the keeper can't be started", pid=root_pid, why=str(error)) from error
    if done.returncode:
        why = f"exit status {done.returncode}"
        raise KernelError("the keeper can't be started", pid=root_pid, why=why)
