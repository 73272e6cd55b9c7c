"""`ckpt serve`: the side to which trees move. It lets in whoever connects, each into a process of
its own, and goes on listening; what has begun goes on when it ends.

A restored tree becomes nobody's child here, as after a restore with `--restore-detached`.

Whoever brings memory of a tree that runs already may need another connection, and nobody else
listens: so with `--once` we stay until they have all, but take no other tree.
"""

from __future__ import annotations

import json
import os
import select
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from ckpt.errors import CkptError
from ckpt.images.pageserver.listener import Listener
from ckpt.migrate.destination import Arrived, receive
from ckpt.migrate.forked import fork_outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.images.pageserver.stream import Stream
    from ckpt.migrate.destination import News
    from ckpt.migrate.options import ServeOptions
    from ckpt.report import Report

_MAX_SAID = 4096


def serve(
    options: ServeOptions,
    report: Report,
    ready: Callable[[tuple[str, int] | None], None],
    arrived: Callable[[Arrived], None],
) -> None:
    """Take trees, with `once` a single one, else until a signal ends us.

    `ready` is called once a source can connect, `arrived` for each tree that runs here. Raises
    UsageError and KernelError for what is wrong with the address, the port and TLS's files.
    """
    # The kernel reaps them at once: their numbers may be wanted.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    full = False
    with Listener(options) as listener:
        ready(listener.where)
        pipes: dict[int, bool] = {}
        try:
            while not full or any(pipes.values()):
                _let_in(listener, pipes, options, report, full=full)
                for came in _said(pipes):
                    arrived(came)
                    report.info(f"pid {came.pid} runs here")
                    full = options.once
        finally:
            for lfd in pipes:
                os.close(lfd)


class _Said:
    """What the process of one connection says to the server, into a pipe."""

    def __init__(self, writer: int) -> None:
        self._writer = writer

    def arrived(self, came: Arrived) -> None:
        self._say({"pid": came.pid, "restore_us": came.restore_us})

    def brings(self) -> None:
        self._say({"brings": True})

    def _say(self, what: dict[str, int]) -> None:
        with suppress(OSError):
            os.write(self._writer, json.dumps(what).encode())


def _let_in(
    listener: Listener,
    pipes: dict[int, bool],
    options: ServeOptions,
    report: Report,
    *,
    full: bool,
) -> None:
    """Wait until somebody comes, or one of those that came has something to say. `pipes`: of those,
    and whether they bring memory of a tree that runs."""
    poll = select.poll()
    for lfd in (listener.fileno(), *pipes):
        poll.register(lfd, select.POLLIN)
    ready = {lfd for lfd, _ in poll.poll()}
    if listener.fileno() not in ready:
        return
    sock, peer = listener.take()
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def connected() -> Stream:
        return listener.secured(sock, peer)

    def work() -> NoReturn:
        for lfd in (reader, *pipes):
            os.close(lfd)
        listener.close()
        os._exit(_one(connected, options, report, _Said(writer), full=full))

    fork_outside((), work)
    sock.close()
    os.close(writer)
    pipes[reader] = False


def _one(
    connected: Callable[[], Stream],
    options: ServeOptions,
    report: Report,
    news: News,
    *,
    full: bool,
) -> int:
    """The process of one connection."""
    # What ends the server leaves us alone; whose tree it is ends us by ending the connection.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        stream = connected()
        report.info(f"{stream.peer} is connected")
        receive(stream, options, report, news, full=full)
    except CkptError as error:
        report.error(str(error))
        return error.exit_code
    return 0


def _said(pipes: dict[int, bool]) -> list[Arrived]:
    """What those that came have brought; forgets those that have ended."""
    came: list[Arrived] = []
    poll = select.poll()
    for lfd in pipes:
        poll.register(lfd, select.POLLIN)
    for lfd, _ in poll.poll(0):
        if said := os.read(lfd, _MAX_SAID):
            found = json.loads(said)
            if found.get("brings"):
                pipes[lfd] = True
            else:
                came.append(Arrived(found["pid"], found["restore_us"]))
        else:
            os.close(lfd)
            del pipes[lfd]
    return came
