"""How a sender reaches a page server, and finds out how it speaks."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ckpt.errors import PeerError, UsageError
from ckpt.images.pageserver.protocol import (
    ANSWER,
    NARROW,
    REST,
    WIDE,
    Command,
    Layout,
    Message,
    image_id,
)
from ckpt.images.pageserver.stream import Stream, broken
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.images.pageserver.tls import TlsOptions

_CONNECT_S = 30
_PATIENCE_S = 2.0


@record(frozen=True)
class ServerAddress:
    """Where the server is. `lfd`: a socket that is connected to it already, and stays open; `host`
    is then only the name that its certificate must have, empty if there is none."""

    host: str = "127.0.0.1"
    port: int = 0
    lfd: int | None = None

    def __str__(self) -> str:
        if self.lfd is not None:
            return f"page server at descriptor {self.lfd}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"page server {host}:{self.port}"


def connected(where: ServerAddress, tls: TlsOptions | None) -> Stream:
    """Raises PeerError if the server can't be reached or is not trusted; UsageError for what is
    wrong on this side."""
    context = None
    if tls is not None:
        from ckpt.images.pageserver import tls as tls_of

        context = tls_of.context(tls, server=False)
        if tls.check_name and not where.host:
            raise UsageError(
                "can't be verified",
                resource="the name of the page server",
                hint="give --address, or --tls-no-cn-verify",
            )
    peer = str(where)
    sock = _connect(where, peer)
    if context is None:
        return Stream(sock, peer)
    return tls_of.secured(sock, context, peer, where.host)


def socket_of(lfd: int) -> socket.socket:
    """A duplicate of the socket behind a descriptor that was handed to us."""
    try:
        return socket.socket(fileno=os.dup(lfd))
    except OSError as error:
        raise UsageError(
            "is no socket", resource=f"--ps-socket {lfd}", why=error.strerror or ""
        ) from error


def layout_spoken(stream: Stream) -> Layout:
    """What the server understands, by a question that changes nothing.

    1. Of a PARENT the narrow form is sent, whose last 8 bytes are the image.
    2. A server that speaks it answers. One that speaks the wide form sees an address there, and
       waits for 8 bytes more, the image.
    3. It gets them if nothing has come for _PATIENCE_S, and answers.

    A server of ours that takes longer knows both forms, and goes on in the wide one, which it was
    taken to speak. CRIU's narrow one sees a stray message then and breaks off: an error, no more.
    """
    question = NARROW.encode(Message(Command.PARENT, image=image_id("pagemap-1")))
    stream.send([question])
    if stream.receives_within(_PATIENCE_S, ANSWER.size) is not None:
        return NARROW
    stream.send([question[NARROW.size - REST :]])
    stream.receive_exactly(ANSWER.size)
    return WIDE


def _connect(where: ServerAddress, peer: str) -> socket.socket:
    if where.lfd is not None:
        return socket_of(where.lfd)
    try:
        sock = socket.create_connection((where.host, where.port), timeout=_CONNECT_S)
    except ConnectionRefusedError as error:
        raise PeerError(
            "can't be reached", resource=peer, why="connection refused", hint="start it first"
        ) from error
    except OSError as error:
        raise broken(peer, error) from error
    sock.settimeout(None)
    return sock
