"""The process that holds the control connection for one side of a migration.

It passes frames on between the other machine and the one it works for, its *principal*, over a pair
of sockets. It outlives the principal, whatever ends that, and then says to the other side what is
true: so a SIGKILL of the one that does the work leaves nobody in doubt. What is to be said then is
the duty of either side (SourceDuty, DestinationDuty).

It is forked before there are threads, leads a session of its own, so that what is sent to the group
of its principal does not reach it, and ignores the signals that ask us to end.

Not guaranteed: who kills both at once gets what a lost connection gives, see ckpt.migrate.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from ckpt.errors import CkptError, PeerError
from ckpt.images.pageserver.relay import Relay
from ckpt.images.pageserver.stream import Stream
from ckpt.migrate import wire
from ckpt.migrate.forked import fork_outside

if TYPE_CHECKING:
    from collections.abc import Collection

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class Duty(ABC):
    """What one side's messenger does besides passing on. Runs in the messenger alone.

    `watched`: a descriptor of ours that is looked at too, or -1.
    """

    watched = -1

    @abstractmethod
    def from_principal(self, frame: wire.Frame, post: Post) -> None:
        """Pass a frame on, or do what it says."""

    @abstractmethod
    def from_peer(self, frame: wire.Frame, post: Post) -> None:
        """The same for one of the other side."""

    @abstractmethod
    def peer_gone(self, post: Post) -> None:
        """The connection is lost, or was closed."""

    @abstractmethod
    def watched_ready(self, post: Post) -> None:
        """`watched` can be read."""

    @abstractmethod
    def principal_gone(self, post: Post) -> None:
        """The principal has ended, in whatever way. Called last, once."""


class Post:
    """The two ends as a duty sees them. A side that is gone gets nothing, without an error."""

    def __init__(self, peer: Stream, principal: Stream) -> None:
        self.peer, self.principal = peer, principal
        self.peer_lost = False

    def to_peer(self, frame: wire.Frame) -> bool:
        """Whether it has left."""
        try:
            wire.pass_on(self.peer, frame)
        except PeerError:
            return False
        return True

    def to_principal(self, frame: wire.Frame) -> None:
        with suppress(PeerError):
            wire.pass_on(self.principal, frame)


def start(
    stream: Stream, duty: Duty, outside: Collection[int], not_for_it: Collection[int] = ()
) -> Stream:
    """Hand the control connection to a new messenger. Ours is the stream that is returned, which
    speaks of the other side by its name. `outside`: numbers that the process must not have;
    `not_for_it`: descriptors whose end it must not put off."""
    ours, theirs = socket.socketpair()

    def work() -> NoReturn:
        ours.close()
        for lfd in not_for_it:
            os.close(lfd)
        _serve(stream, Stream(theirs, "principal"), duty)
        os._exit(0)

    fork_outside(outside, work)
    theirs.close()
    peer = stream.peer
    stream.close()
    return Stream(ours, peer)


def _serve(stream: Stream, principal: Stream, duty: Duty) -> None:
    os.setsid()
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    let_go_of_the_terminal()
    with Relay(stream) as relay:
        post = Post(Stream(relay.sock, stream.peer), principal)
        try:
            _pass_frames(post, duty)
        finally:
            duty.principal_gone(post)


def _pass_frames(post: Post, duty: Duty) -> None:
    """Until the principal has ended."""
    while True:
        poll = select.poll()
        poll.register(post.principal.fileno(), select.POLLIN)
        if not post.peer_lost:
            poll.register(post.peer.fileno(), select.POLLIN)
        if duty.watched >= 0:
            poll.register(duty.watched, select.POLLIN)
        ready = {lfd for lfd, _ in poll.poll()}
        # The principal first: what it has said before its end is still to be done.
        if post.principal.fileno() in ready:
            try:
                duty.from_principal(wire.receive(post.principal), post)
            except PeerError:
                return
        elif duty.watched in ready:
            duty.watched_ready(post)
        else:
            _one_of_peer(post, duty)


def _one_of_peer(post: Post, duty: Duty) -> None:
    try:
        frame = wire.receive(post.peer)
    except CkptError:
        post.peer_lost = True
        duty.peer_gone(post)
        return
    duty.from_peer(frame, post)


def let_go_of_the_terminal() -> None:
    """Whoever reads what the principal prints must not wait for us."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for lfd in range(3):
        os.dup2(null, lfd)
    os.close(null)
