"""How the UNIX sockets of a tree are made, all at once.

1. Pairs without a name: one socketpair(2) for a connection. Of one whose other end is closed, that
   end is made as well, for as long as it takes to send what is in flight.
2. Those that connect or stand alone are made and bound.
3. Connections by name, listener by listener, those first whose name was removed: it is bound and
   listens, accepts who was accepted, and leaves waiting who was not; then its name is removed. A
   listener that nobody has any more is made for as long as that takes.
4. What is in flight is sent (ckpt.files.unixfill).
5. Datagram sockets connect.
6. Of every one: halves that are shut down, options, flags. Some options change how data is sent,
   and a socket that is shut down sends none.

Who calls socketpair, listen and connect is who the other end shows as its peer
(ckpt.files.sockmaking).
"""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING, Any

from ckpt.errors import RestoreError
from ckpt.files import sockopts, sockqueue
from ckpt.files.openflags import SETTABLE
from ckpt.files.sockmaking import Maker, connect_as, listen_as, made_pair
from ckpt.files.sockqueue import borrowed
from ckpt.files.unixdiag import ESTABLISHED, LISTEN
from ckpt.files.unixfill import Checked, Filler
from ckpt.files.unixnames import Binder

if TYPE_CHECKING:
    from ckpt.files.restoring import RestoreView
    from ckpt.files.sockqueue import Queued
    from ckpt.files.unixnames import Name

STREAMS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
_READ, _WRITE = 1, 2


class Builder:
    """Makes the sockets of one restore; `open` has them afterwards by id."""

    def __init__(
        self,
        view: RestoreView,
        sockets: dict[int, Checked],
        queues: dict[int, list[Queued]],
        ours: dict[int, Any],
        outside: dict[int, Name],
    ) -> None:
        self.view = view
        self.open: dict[int, int] = {}
        self.binder = Binder()
        self._sockets = sockets
        self._ours = ours
        self._outside = outside
        self._by_ino = {s.message.ino: s for s in sockets.values()}
        self._now: Checked | None = None
        self._filler = Filler(view, queues, ours, self.open)

    def build(self) -> None:
        """Raises RestoreError; all names that were made are removed again then."""
        try:
            self._build()
        except BaseException as error:
            self.binder.undo()
            self._filler.close()
            for lfd in self.open.values():
                os.close(lfd)
            self.open.clear()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def _build(self) -> None:
        links: list[tuple[Checked, Checked]] = []
        for s in self._each():
            peer = self._by_ino.get(s.message.peer)
            if s.id in self.open or s.message.state == LISTEN:
                continue
            if s.message.peer in self._outside:
                continue
            if peer is None and s.message.state == ESTABLISHED and not s.name:
                self._make_widow(s)
            elif peer and self._is_pair(s, peer):
                self._make_pair(s, peer)
            elif s.message.type in STREAMS and peer and self._is_client(s, peer):
                links.append((s, peer))
        accepted = {server.id for _, server in links}
        for s in self._each():
            alone = s.message.state == ESTABLISHED and not s.message.peer and s.name
            if alone and s.message.type in STREAMS and s.id not in self.open:
                links.append((self._stand_in(s), s))
                accepted.add(s.id)
        for s in self._each():
            if s.id not in self.open and s.id not in accepted and s.message.state != LISTEN:
                self._make_alone(s)
        self._connect_by_name(links)
        self._filler.fill(self._each())
        self._connect_datagrams()
        for s in self._each():
            self._complete(s)

    def _each(self) -> list[Checked]:
        """All sockets; who is at work is remembered for errors."""
        return [self._sockets[i] for i in sorted(self._sockets)]

    def _failed(self, error: OSError) -> RestoreError:
        hint = ""
        if sockqueue.no_room(error):
            hint = "raise /proc/sys/net/core/wmem_max or run with CAP_NET_ADMIN"
        now = self._filler.now or self._now
        where = now.where if now else "UNIX sockets"
        why = os.strerror(error.errno or 0)
        return RestoreError("can't be made", resource=where, why=why, hint=hint)

    def _maker(self, s: Checked) -> Maker:
        """Whose credentials a socket shall show."""
        self._now = s
        holders = [pid for pid, table in self.view.tables.items() if s.id in table.values()]
        near = holders[0] if holders else 0
        ours = self._ours.get(s.id)
        if ours is None or not ours.HasField("pid"):
            return Maker(near, near)
        return Maker(ours.pid, near, ours.uid, ours.gid, tuple(ours.groups))

    def _is_client(self, s: Checked, peer: Checked) -> bool:
        """Whether it had called connect(2) to that one, which was accepted: it has no name, or one
        that nobody listens on."""
        if peer.message.state == LISTEN:
            return False
        if bool(s.name) != bool(peer.name):
            return not s.name
        listening = {o.name for o in self._sockets.values() if o.message.state == LISTEN}
        if (s.name in listening) != (peer.name in listening):
            return s.name not in listening
        return s.id < peer.id

    # ---- without names

    def _is_pair(self, s: Checked, peer: Checked) -> bool:
        """Made by socketpair(2): one end of datagrams may have been bound since."""
        if peer.message.peer != s.message.ino or s is peer:
            return False
        if s.message.type in STREAMS:
            return not s.name and not peer.name
        return not s.name or not peer.name

    def _make_pair(self, s: Checked, peer: Checked) -> None:
        one, other = made_pair(self.view, s.message.type, self._maker(s))
        self.open[s.id], self.open[peer.id] = one, other
        for end in (s, peer):
            if end.name:
                self.binder.bind(self.open[end.id], end.name)
        self._filler.later(s, other)
        self._filler.later(peer, one)

    def _make_widow(self, s: Checked) -> None:
        """One whose peer is closed."""
        lfd, other = made_pair(self.view, s.message.type, self._maker(s))
        self.open[s.id] = lfd
        self._filler.from_the_dead(s, other)

    def _stand_in(self, s: Checked) -> Checked:
        """For the closed end of a connection whose other end has the name."""
        return s._replace(id=-1, name=None)

    # ---- with names

    def _make_alone(self, s: Checked) -> None:
        self._now = s
        kind = s.message.type | socket.SOCK_NONBLOCK
        self.open[s.id] = socket.socket(socket.AF_UNIX, kind).detach()
        if s.name:
            self.binder.bind(self.open[s.id], s.name)
            if s.name.deleted and s.message.type in STREAMS:
                self.binder.unlink(s.name)

    def _connect_by_name(self, links: list[tuple[Checked, Checked]]) -> None:
        listeners = [s for s in self._each() if s.message.state == LISTEN]
        known = {(s.message.type, s.name) for s in listeners}
        for _, server in links:
            if (server.message.type, server.name) not in known:
                known.add((server.message.type, server.name))
                listeners.insert(0, server)
        listeners.sort(key=lambda s: not (s.name and s.name.deleted))
        for listener in listeners:
            mine = [
                link
                for link in links
                if (link[1].message.type, link[1].name) == (listener.message.type, listener.name)
            ]
            self._serve(listener, mine)

    def _serve(self, listener: Checked, links: list[tuple[Checked, Checked]]) -> None:
        """Make a listener and the connections by its name."""
        stays = listener.message.state == LISTEN
        self._now = listener
        kind = listener.message.type | socket.SOCK_NONBLOCK
        lfd = socket.socket(socket.AF_UNIX, kind).detach()
        try:
            # Of a stand-in the creator is whoever the client shows.
            shown = listener if stays else links[0][0]
            if listener.name:
                self.binder.bind(lfd, listener.name)
            backlog = listener.message.backlog if stays else 1
            listen_as(self.view, self._maker(shown), lfd, backlog)
            for client, server in links:
                self._link(client, server, lfd)
            if stays:
                self._leave_waiting(listener)
            if listener.name and listener.name.deleted:
                self.binder.unlink(listener.name)
        except BaseException:
            os.close(lfd)
            raise
        if stays:
            self.open[listener.id] = lfd
        else:
            os.close(lfd)

    def _link(self, client: Checked, server: Checked, listening: int) -> None:
        assert server.name is not None
        stand_in = client.id not in self._sockets
        if stand_in:
            client_lfd = socket.socket(socket.AF_UNIX, server.message.type).detach()
        else:
            client_lfd = self.open[client.id]
        try:
            connect_as(self.view, self._maker(server), client_lfd, server.name)
            with borrowed(listening) as sock:
                accepted, _ = sock.accept()
                self.open[server.id] = accepted.detach()
        except BaseException:
            if stand_in:
                os.close(client_lfd)
            raise
        if stand_in:
            self._filler.from_the_dead(server, client_lfd)
            return
        self._filler.later(client, self.open[server.id])
        self._filler.later(server, client_lfd)

    def _leave_waiting(self, listener: Checked) -> None:
        waiting = [s for s in self._each() if s.message.peer == listener.message.ino]
        waiting.sort(key=lambda s: self._ours[s.id].place if s.id in self._ours else 0)
        for s in waiting:
            assert listener.name is not None
            maker = self._maker(s)
            connect_as(self.view, maker, self.open[s.id], listener.name)

    # ---- datagrams

    def _connect_datagrams(self) -> None:
        """Who connects to a socket does it before that connects to another, which ends its taking
        datagrams, and connections, of anybody else."""
        done: set[int] = set()

        def connect(s: Checked) -> None:
            if s.id in done:
                return
            done.add(s.id)
            for other in self._each():
                if other.message.peer == s.message.ino and other.message.type == s.message.type:
                    connect(other)
            self._connect_datagram(s)

        datagrams = [s for s in self._each() if s.message.type == socket.SOCK_DGRAM]
        for s in datagrams:
            connect(s)
        for s in datagrams:
            if s.name and s.name.deleted:
                self.binder.unlink(s.name)

    def _connect_datagram(self, s: Checked) -> None:
        peer = self._by_ino.get(s.message.peer)
        if s.message.state != ESTABLISHED or (peer and self._is_pair(s, peer)):
            return
        self._now = s
        if s.message.peer in self._outside:
            connect_as(self.view, self._maker(s), self.open[s.id], self._outside[s.message.peer])
        elif peer is None and s.name and s.id in self._ours and self._ours[s.id].HasField("reset"):
            self._connect_to_nobody(s)
        elif peer and peer.name:
            connect_as(self.view, self._maker(s), self.open[s.id], peer.name)

    def _connect_to_nobody(self, s: Checked) -> None:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
            borrowed(self.open[s.id]) as sock,
        ):
            other.bind(b"")
            sock.connect(other.getsockname())

    # ---- every one

    def _complete(self, s: Checked) -> None:
        self._now = s
        lfd, how = self.open[s.id], s.message.shutdown
        with borrowed(lfd) as sock:
            if how & _WRITE:
                sock.shutdown(socket.SHUT_WR)
            if how & _READ:
                sock.shutdown(socket.SHUT_RD)
        sockopts.apply(self.view, lfd, s.message.opts, s.where)
        fcntl.fcntl(lfd, fcntl.F_SETFL, s.flags & SETTABLE)
        self.view.set_signum(lfd, s.signum)
