"""The process that holds the userfaultfds of one lazy restore, and what can be asked of it.

The order: a restore hands its address spaces over, somebody gives the pages, in any order; when
both are there a server is started. The end: everything has arrived; or nobody is left who could
need it. The name of the socket goes first then, so that nobody takes it for one that is served.

When pages can't be had (a file is cut short, or rotten, or a connection is lost) the tree is
stopped with SIGSTOP and the holder stays, without which the missing pages would read as zeros:
until the tree has ended, or the pages are given anew and the tree goes on.

One thread, no child but the server, descriptors of nobody else. A client that breaks off, or says
what is not understood, loses its connection and nothing more.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from ckpt._native import lib
from ckpt.errors import CkptError
from ckpt.lazy.connected import Client, object_of, shares_of, task_of
from ckpt.lazy.giving import close_all
from ckpt.lazy.known import Known
from ckpt.lazy.layout import Job, Object, Task, record_working_set
from ckpt.lazy.reasons import reason
from ckpt.lazy.standing import alive, go_on, still_there, stop
from ckpt.mem.missing.client import VERSION
from ckpt.mem.missing.contents import Contents
from ckpt.mem.tracking import protocol
from ckpt.mem.tracking.protocol import Message, ProtocolError
from ckpt.record import field, record

_IDLE_S = 10.0
_LOOK_MS, _TRACKED_MS = 1000, 20
_PEER = struct.Struct("3i")


class State(StrEnum):
    """WAITING for address spaces or pages; SERVING; LOST: pages can't be had; DONE."""

    WAITING = "waiting"
    SERVING = "serving"
    LOST = "lost"
    DONE = "done"


class Refused(Exception):
    """A request that can't be granted; its text is for the client."""


@record
class Holder:
    """`first`: the other end of the connection of who has started us."""

    listening: socket.socket | None
    first: socket.socket
    forget_name: Callable[[], None]
    state: State = State.WAITING
    clients: list[Client] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    complete: bool = False
    root_pid: int = 0
    contents: Contents | None = None
    job: Job | None = None
    server_pid: int = 0
    server_pidfd: int = -1
    why: str = ""
    interrupted: bool = False
    untracked: str = ""
    known: Known = field(default_factory=Known)
    stopped: list[tuple[int, int]] = field(default_factory=list)

    def run(self) -> None:
        """Until there is nothing more to hold."""
        self.clients.append(Client(self.first))
        while self.state is not State.DONE and not self._left_alone():
            self._turn()
        self.forget_name()
        self.known.forget()
        self._tell_the_end()

    def _turn(self) -> None:
        poll = select.poll()
        listening = [sock for sock in (self.listening, self.known.listening) if sock is not None]
        watched = [sock.fileno() for sock in (*listening, *(one.sock for one in self.clients))]
        if self.server_pidfd >= 0:
            watched.append(self.server_pidfd)
        for lfd in watched:
            poll.register(lfd, select.POLLIN)
        tracked = self.state is State.SERVING and any(task.tracked for task in self.tasks)
        ready = {lfd for lfd, _ in poll.poll(_TRACKED_MS if tracked else _LOOK_MS)}
        if tracked and self._may_track():
            self._track()
            return
        if self.server_pidfd in ready:
            self._server_ended()
        for sock in listening:
            if sock.fileno() in ready:
                self._accept(sock)
        for client in [c for c in self.clients if c.sock.fileno() in ready]:
            self._hear(client)

    def _left_alone(self) -> bool:
        """Nobody is there who could bring what is missing here, or nobody who needs it."""
        if self.state is State.WAITING:
            return not self.clients
        if self.state is not State.LOST or self._half_built():
            return False
        return not self._anybody()

    def _half_built(self) -> bool:
        """Whether the restore of the tree is not over yet."""
        return any(client.restores for client in self.clients)

    def _anybody(self) -> bool:
        return any(alive(task.pidfd) for task in self.tasks) or still_there(self.stopped)

    # ---- clients

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, _ = listening.accept()
            uid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        except OSError:
            return  # it has gone already
        if uid in (0, os.geteuid()):
            self.clients.append(Client(sock))
        else:
            sock.close()

    def _hear(self, client: Client) -> None:
        """One message, or the end of the connection."""
        try:
            message = protocol.receive(client.sock, first_s=protocol.MESSAGE_S)
            if message is None:
                self._hang_up(client)
                return
            try:
                reply = self._answer(client, message)
            finally:
                message.close()
            if reply is not None:
                protocol.send(client.sock, reply)
        except (Refused, CkptError) as error:
            self._say(client, {"error": str(error)})
        except (ProtocolError, TimeoutError) as error:
            self._say(client, {"error": f"not understood: {error}"})
            self._hang_up(client)
        except OSError:
            self._hang_up(client)

    def _say(self, client: Client, head: dict[str, object]) -> None:
        try:
            protocol.send(client.sock, head)
        except OSError:
            self._hang_up(client)

    def _hang_up(self, client: Client) -> None:
        if client in self.clients:
            self.clients.remove(client)
        client.sock.close()
        client.giving.close()
        if client.restores and self.state is State.WAITING:
            # The restore has failed, and has taken its tasks with it.
            for task in self.tasks:
                os.close(task.uffd)
                os.close(task.pidfd)
            for one in self.objects:
                os.close(one.lfd)
            self.tasks.clear()
            self.objects.clear()
            self.complete = False

    def _answer(self, client: Client, message: Message) -> dict[str, object] | None:
        """None where the answer comes later."""
        operation = _OPERATIONS.get(message.get("op", str))
        if operation is None:
            raise ProtocolError("no such request")
        return operation(self, client, message)

    def _hello(self, _: Client, message: Message) -> dict[str, object]:
        if message.get("version", int) != VERSION:
            raise Refused(f"it is of another version of ckpt (pid {os.getpid()})")
        return {"pid": os.getpid()}

    def _status(self, _: Client, __: Message) -> dict[str, object]:
        return {"pid": os.getpid(), "server": self.server_pid, "why": self.why, **self._figures()}

    def _figures(self) -> dict[str, object]:
        found: dict[str, object] = {"state": str(self.state), "root": self.root_pid}
        if self.interrupted:
            found["interrupted"] = True
        if self.untracked:
            found["untracked"] = self.untracked
        if self.job is not None:
            told = self.job.told
            for name in ("left", "faults", "holes", "copied", "there", "gone", "spaces"):
                found[name] = int(getattr(told, f"nr_{name}"))
        return found

    # ---- of a restore

    def _task(self, client: Client, message: Message) -> dict[str, object]:
        if self.state is not State.WAITING or self.complete:
            raise Refused("another tree is served already")
        if message.get("op", str) == "object":
            self.objects.append(object_of(message))
        else:
            shares = message.get("op", str) == "shares"
            self.tasks.append(shares_of(message) if shares else task_of(message))
        client.restores = True
        return {}

    def _serve(self, client: Client, message: Message) -> dict[str, object] | None:
        self.root_pid = message.get("root", int)
        self.complete = client.wants_service = True
        self._begin()
        return None

    def _committed(self, client: Client, _: Message) -> dict[str, object]:
        client.restores = False
        return {}

    # ---- of who has the pages

    def _begin_giving(self, client: Client, _: Message) -> dict[str, object]:
        if self.state is State.SERVING:
            return {"busy": True}
        client.giving.begin()
        return {}

    def _part(self, client: Client, message: Message) -> dict[str, object]:
        client.giving.take(message)
        return {}

    def _end_giving(self, client: Client, message: Message) -> dict[str, object]:
        if self.state is State.SERVING:
            raise Refused("pages are being brought already")
        before = self.contents
        if self.job is not None and before is not None and not client.giving.is_like(before):
            raise Refused("these are not the images that the tree was restored from")
        self.contents = client.giving.end(message)
        close_all(before)
        if self.job is None:
            self._begin()
        else:
            self._resume(self.job)
        return {}

    def _wait(self, client: Client, _: Message) -> dict[str, object] | None:
        if self.state is State.LOST:
            return {"lost": self.why}
        client.waits = True
        return None

    # ---- the server

    def _begin(self) -> None:
        if not self.complete or self.contents is None:
            return
        self.job = Job(self.tasks, self.contents, self.objects)
        self._start(self.job)
        for client in [c for c in self.clients if c.wants_service]:
            client.wants_service = False
            self._say(client, {})
        self.known.tell(task.pid for task in self.tasks)

    def _start(self, job: Job) -> None:
        self.server_pid = job.start()
        self.server_pidfd = os.pidfd_open(self.server_pid)
        self.state = State.SERVING

    def _resume(self, job: Job) -> None:
        assert self.contents is not None
        job.set_sources(self.contents.sources)
        self.why = ""
        self.interrupted = False
        self._start(job)
        go_on(self.stopped)
        self.stopped = []

    def _server_ended(self) -> None:
        assert self.job is not None
        os.close(self.server_pidfd)
        self.server_pidfd = -1
        status = os.waitpid(self.server_pid, 0)[1]
        if os.WIFSIGNALED(status) and self._streams():
            self._interrupted()
        elif os.WIFSIGNALED(status):
            self._start(self.job)
        elif os.WEXITSTATUS(status) == 0:
            self.state = State.DONE
        else:
            self._lost(self.job)

    def _streams(self) -> bool:
        assert self.contents is not None
        return any(source.kind == lib.CKPT_LAZY_STREAM for source in self.contents.sources)

    def _interrupted(self) -> None:
        """A server was killed in the middle of a conversation, which no other can go on with. Who
        needs a page waits until there is a new connection."""
        self.state = State.LOST
        self.interrupted = True
        self.why = "the connection must be made anew"
        for client in [c for c in self.clients if c.waits]:
            client.waits = False
            self._say(client, {"again": True})

    def _lost(self, job: Job) -> None:
        self.state = State.LOST
        assert self.contents is not None
        self.why = reason(job.told, self.contents)
        if self._half_built():
            # Its restore may itself wait for a page, and would do so for ever.
            for task in self.tasks:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(task.pidfd, signal.SIGKILL)
        else:
            self.stopped = stop([task.pid for task in self.tasks if alive(task.pidfd)])
        import syslog

        syslog.syslog(syslog.LOG_ERR, f"ckpt: pid {self.root_pid} is stopped: {self.why}")
        for client in [c for c in self.clients if c.waits or c.wants_service]:
            client.waits = client.wants_service = False
            self._say(client, {"lost": self.why})

    # ---- the end

    def _may_track(self) -> bool:
        """Everything is there, and the restore is done; or nobody is there any more."""
        assert self.job is not None
        if not self._anybody():
            return True
        return not self.job.told.nr_left and not any(c.restores for c in self.clients)

    def _track(self) -> None:
        """Tracking goes on without us. Where it can't, the next dump is whole."""
        assert self.job is not None and self.contents is not None
        self.state = State.DONE
        try:
            from ckpt.lazy.tracking import track

            if not self._anybody():
                raise CkptError("it has ended")
            if not self.contents.base:
                raise CkptError("that set has no identity")
            track(self.tasks, self.job.moved, self.contents, self.root_pid, self._end_server)
        except (CkptError, OSError) as error:
            import syslog

            syslog.syslog(syslog.LOG_ERR, f"ckpt: pid {self.root_pid} is not tracked: {error}")
            self.untracked = str(error)
        self._end_server()

    def _end_server(self) -> None:
        if self.server_pidfd >= 0:
            signal.pidfd_send_signal(self.server_pidfd, signal.SIGKILL)
            os.waitpid(self.server_pid, 0)
            os.close(self.server_pidfd)
            self.server_pidfd = -1

    def _tell_the_end(self) -> None:
        if self.state is State.DONE and self.job is not None and self.contents is not None:
            record_working_set(self.job, self.contents)
        for client in self.clients:
            if client.waits:
                self._say(client, self._figures())


_OPERATIONS: dict[str, Callable[[Holder, Client, Message], dict[str, object] | None]] = {
    "hello": Holder._hello,
    "status": Holder._status,
    "task": Holder._task,
    "shares": Holder._task,
    "object": Holder._task,
    "serve": Holder._serve,
    "committed": Holder._committed,
    "begin": Holder._begin_giving,
    "folder": Holder._part,
    "source": Holder._part,
    "runs": Holder._part,
    "object-runs": Holder._part,
    "end": Holder._end_giving,
    "wait": Holder._wait,
}
