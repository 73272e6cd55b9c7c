"""What a client may ask of the keeper, and the answers: no sockets here.

Each request is checked whole before anything is changed. An address space whose engine fails is
let go at once, whatever the failure: what the engine had consumed by then is lost with it, and the
client writes it whole from there on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ckpt.errors import CkptError, TargetError
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.engine import Engine, Found, Mode
from ckpt.mem.tracking.holding import Held
from ckpt.mem.tracking.protocol import VERSION, Message, ProtocolError
from ckpt.mem.tracking.state import Ledger, WrongRoundError
from ckpt.record import field, record

MakeEngine = Callable[[Mode, int, int], Engine]
_SET_ID_MAX = 256
_UFFD = "anon_inode:[userfaultfd]"


class Refused(Exception):
    """A request that can't be granted; its text is for the client."""


@record
class Reply:
    """`fds` belong to engines."""

    head: dict[str, object] = field(default_factory=dict)
    blobs: list[bytes] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)


class Requests:
    """The state of one keeper and what can be done to it. `finished`: it was told to end;
    `ever_tracked`: something was handed over at least once."""

    def __init__(self, root_pid: int, mode: Mode, make_engine: MakeEngine) -> None:
        self.finished = False
        self.ever_tracked = False
        self._root_pid = root_pid
        self._mode = mode
        self._make_engine = make_engine
        self._held: dict[int, Held] = {}
        self._lent: set[int] = set()
        self._ledger = Ledger()

    def answer(self, message: Message) -> Reply:
        """Raises ProtocolError and Refused; nothing has changed then."""
        operation = _OPERATIONS.get(message.get("op", str))
        if operation is None:
            raise ProtocolError("no such request")
        return operation(self, message)

    def pidfds(self) -> dict[int, int]:
        """pid of each pidfd; they become readable when the process has ended."""
        return {held.pidfd: pid for pid, held in self._held.items()}

    def drop(self, pid: int) -> None:
        """Let go of one address space."""
        self._ledger.drop(pid)
        self._lent.discard(pid)
        held = self._held.pop(pid, None)
        if held is not None:
            held.close()

    def close(self) -> None:
        """Let go of all: no protection is left in any target."""
        for pid, held in list(self._held.items()):
            held.release()
            self.drop(pid)

    def hung_up(self) -> None:
        """The client has left. What it had borrowed is served by us again; it may have protected
        pages that were written, so that nothing is known any more."""
        if self._lent:
            self._ledger.forget()
        for pid in list(self._lent):
            self._take_back(pid, Extents.none(), Extents.none())

    def _hello(self, message: Message) -> Reply:
        if message.get("version", int) != VERSION:
            raise Refused(
                f"the keeper (pid {os.getpid()}) is of another version of ckpt; end it by SIGTERM"
            )
        return Reply({"mode": self._mode.value, "base": self._ledger.base, "pid": os.getpid()})

    def _tracked(self, _: Message) -> Reply:
        for pid in [pid for pid, held in self._held.items() if not held.alive()]:
            self.drop(pid)
        rows = [
            [pid, held.start_time, self._ledger[pid].io_contexts]
            for pid, held in self._held.items()
        ]
        return Reply({"tracked": rows})

    def _inherit(self, message: Message) -> Reply:
        """Adopt an address space that stands, and was made from an image set: from here on it is
        watched, relative to that."""
        base = message.get("base", str)
        if not 0 < len(base) <= _SET_ID_MAX or len(message.blobs) != 2:
            raise ProtocolError("a set, ranges and pages are wanted")
        try:
            ranges, stored = (Extents.from_bytes(blob) for blob in message.blobs)
        except ValueError as error:
            raise ProtocolError(str(error)) from error
        self._adopt(message)
        pid = message.get("pid", int)
        try:
            engine = self._held[pid].engine
            engine.arm(ranges)
            engine.look(ranges, rearm=True)
            self._ledger.inherit(pid, base, stored)
        except (CkptError, OSError, WrongRoundError) as error:
            self.drop(pid)
            raise Refused(str(error)) from error
        return Reply()

    def _adopt(self, message: Message) -> Reply:
        pid, start_time = message.get("pid", int), message.get("start_time", int)
        if len(message.fds) != 2 or not _is_uffd(message.fds[0]):
            raise ProtocolError("two descriptors are wanted, the first a userfaultfd")
        uffd, pagemap = message.fds
        try:
            engine = self._make_engine(self._mode, uffd, pagemap)
        except (OSError, RuntimeError) as error:  # no descriptor, no thread to be had
            raise Refused(f"the keeper can't take it: {error}") from error
        message.fds.clear()  # they are the engine's
        try:
            held = Held(pid, start_time, engine)
        except TargetError as error:
            raise Refused(str(error)) from error
        self.drop(pid)
        self._held[pid] = held
        self._ledger.add(pid)
        self.ever_tracked = True
        return Reply()

    def _round(self, message: Message) -> Reply:
        rearm = message.get("rearm", bool)
        wanted = _sets(message, 2)
        if any(room and ranges - room for ranges, room in wanted.values()):
            raise ProtocolError("ranges are not in their room")
        self._ledger.begin()
        reply = Reply()
        answers: list[list[object]] = []
        lost: list[list[object]] = []
        for pid, (ranges, room) in wanted.items():
            if pid not in self._held:
                continue
            try:
                answers.append([pid, self._look(pid, ranges, room, reply, rearm=rearm)])
            except (CkptError, OSError) as error:
                lost.append([pid, str(error)])
                self.drop(pid)
        reply.head = {"round": self._ledger.end(), "answers": answers, "lost": lost}
        return reply

    def _look(self, pid: int, ranges: Extents, room: Extents, reply: Reply, *, rearm: bool) -> bool:
        """Adds four blobs to `reply`; returns whether there were contexts of I/O."""
        held = self._held[pid]
        if not held.unchanged():
            raise TargetError("it has ended or called exec", pid=pid)
        if rearm:
            held.engine.arm(ranges, room)
        found = held.engine.look(ranges, rearm=rearm)
        answer = self._ledger.note(pid, ranges, found)
        sets = (answer.must, answer.populated, answer.stored, answer.untracked)
        reply.blobs += [pages.to_bytes() for pages in sets]
        return answer.io_contexts

    def _commit(self, message: Message) -> Reply:
        set_id = message.get("set", str)
        if not 0 < len(set_id) <= _SET_ID_MAX:
            raise ProtocolError("the name of the set is empty or too long")
        stored, settled, contexts = {}, {}, {}
        for (pid, is_settled, has_contexts), pages in _named(message, int, bool, bool):
            stored[pid] = pages
            settled[pid] = is_settled
            contexts[pid] = has_contexts
        try:
            self._ledger.commit(
                message.get("round", int), set_id, stored, settled=settled, io_contexts=contexts
            )
        except WrongRoundError as error:
            raise Refused(str(error)) from error
        return Reply({"base": set_id})

    def _lend(self, message: Message) -> Reply:
        """The client serves the faults of an address space until it gives it back, or leaves."""
        pid = message.get("pid", int)
        held = self._held.get(pid)
        if held is None or pid in self._lent or not held.unchanged():
            raise Refused(f"pid {pid} is not to be had")
        uffd, moved = held.engine.lend()
        self._lent.add(pid)
        pages = self._ledger[pid]
        pages.owed = pages.owed | moved
        sets = (pages.owed | pages.pending, pages.stored)
        return Reply({"io_contexts": pages.io_contexts}, [one.to_bytes() for one in sets], [uffd])

    def _give_back(self, message: Message) -> Reply:
        """A round that the client has made by itself. All that it had borrowed is ours again."""
        given = _sets(message, 4)
        self._ledger.begin()
        lost: list[list[object]] = []
        for pid, (ranges, written, populated, moved) in given.items():
            if pid not in self._lent:
                continue
            why = self._take_back(pid, moved, ranges)
            if why:
                lost.append([pid, why])
                continue
            self._ledger.note(pid, ranges, Found(written, populated, Extents.none()))
        return Reply({"round": self._ledger.end(), "lost": lost})

    def _take_back(self, pid: int, moved: Extents, ranges: Extents) -> str:
        """Why it can't be had back; then it is let go of."""
        self._lent.discard(pid)
        engine = self._held[pid].engine
        try:
            engine.take_back(moved, ranges)
        except (CkptError, OSError, RuntimeError) as error:  # no thread to be had
            self.drop(pid)
            return str(error)
        return ""

    def _untrack(self, _: Message) -> Reply:
        self.close()
        self.finished = True
        return Reply()

    def _status(self, _: Message) -> Reply:
        rows = []
        for pid in self._held:
            pages = self._ledger[pid]
            sizes = [one.nr_pages for one in (pages.stored, pages.owed, pages.pending)]
            rows.append([pid, pages.io_contexts, *sizes])
        head: dict[str, object] = {"root": self._root_pid, "pid": os.getpid(), "tasks": rows}
        return Reply({**head, "mode": self._mode.value, "base": self._ledger.base})


def _named(message: Message, *kinds: type) -> list[tuple[list[Any], Extents]]:
    """The rows of "tasks", whose first column is a pid that occurs once, each with its blob."""
    rows = message.rows("tasks", *kinds)
    if len(rows) != len(message.blobs) or len({row[0] for row in rows}) != len(rows):
        raise ProtocolError("tasks and their pages don't match")
    try:
        pages = [Extents.from_bytes(blob) for blob in message.blobs]
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    return list(zip(rows, pages, strict=True))


def _sets(message: Message, nr: int) -> dict[int, list[Extents]]:
    """The rows of "tasks", each a pid that occurs once, with `nr` blobs each."""
    rows = message.rows("tasks", int)
    if len(message.blobs) != nr * len(rows) or len({pid for (pid,) in rows}) != len(rows):
        raise ProtocolError("tasks and their pages don't match")
    try:
        sets = iter([Extents.from_bytes(blob) for blob in message.blobs])
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    return {pid: [next(sets) for _ in range(nr)] for (pid,) in rows}


def _is_uffd(lfd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{lfd}") == _UFFD  # noqa: PTH115 (a Path changes the text)


_OPERATIONS: dict[str, Callable[[Requests, Message], Reply]] = {
    "hello": Requests._hello,
    "tracked": Requests._tracked,
    "adopt": Requests._adopt,
    "inherit": Requests._inherit,
    "round": Requests._round,
    "lend": Requests._lend,
    "give_back": Requests._give_back,
    "commit": Requests._commit,
    "untrack": Requests._untrack,
    "status": Requests._status,
}
