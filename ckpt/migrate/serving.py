"""`ckpt serve`: the side to which trees move. It lets in whoever connects, each into a process of
its own, and goes on listening; what has begun goes on when it ends.

A restored tree becomes nobody's child here, as after a restore with `--restore-detached`.
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
    with Listener(options) as listener:
        ready(listener.where)
        pipes: dict[int, None] = {}
        try:
            while True:
                _let_in(listener, pipes, options, report)
                for came in _said(pipes):
                    arrived(came)
                    report.info(f"pid {came.pid} runs here")
                    if options.once:
                        return
        finally:
            for lfd in pipes:
                os.close(lfd)


def _let_in(
    listener: Listener, pipes: dict[int, None], options: ServeOptions, report: Report
) -> None:
    """Wait until somebody comes, or one of those that came has something to say."""
    poll = select.poll()
    for lfd in (listener.fileno(), *pipes):
        poll.register(lfd, select.POLLIN)
    ready = {lfd for lfd, _ in poll.poll()}
    if listener.fileno() not in ready:
        return
    sock, peer = listener.take()
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def work() -> NoReturn:
        for lfd in (reader, *pipes):
            os.close(lfd)
        listener.close()
        os._exit(_one(lambda: listener.secured(sock, peer), options, report, writer))

    fork_outside((), work)
    sock.close()
    os.close(writer)
    pipes[reader] = None


def _one(
    connected: Callable[[], Stream], options: ServeOptions, report: Report, writer: int
) -> int:
    """The process of one connection."""
    # What ends the server leaves us alone; whose tree it is ends us by ending the connection.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def say(came: Arrived) -> None:
        said = {"pid": came.pid, "restore_us": came.restore_us}
        with suppress(OSError):
            os.write(writer, json.dumps(said).encode())

    try:
        stream = connected()
        report.info(f"{stream.peer} is connected")
        receive(stream, options, report, say)
    except CkptError as error:
        report.error(str(error))
        return error.exit_code
    return 0


def _said(pipes: dict[int, None]) -> list[Arrived]:
    """What those that came have brought; forgets those that have ended."""
    came: list[Arrived] = []
    poll = select.poll()
    for lfd in pipes:
        poll.register(lfd, select.POLLIN)
    for lfd, _ in poll.poll(0):
        if said := os.read(lfd, _MAX_SAID):
            found = json.loads(said)
            came.append(Arrived(found["pid"], found["restore_us"]))
        else:
            os.close(lfd)
            del pipes[lfd]
    return came
