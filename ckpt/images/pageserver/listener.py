"""Where a server of ours waits for those who connect, plain or with TLS.

It listens beyond the loopback interface only with TLS, or if told `insecure`: whoever reaches the
port could else write, or read, the memory of a process that is restored as root.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, UsageError
from ckpt.images.pageserver.connect import socket_of
from ckpt.images.pageserver.stream import Stream
from ckpt.record import record

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

    from ckpt.images.pageserver.tls import TlsOptions


@record(frozen=True, kw_only=True)
class ListenOptions:
    """`ps_socket`: a socket on which the other side is connected already; nothing is listened on
    then."""

    address: str = "127.0.0.1"
    port: int = 0
    ps_socket: int | None = None
    tls: TlsOptions | None = None
    insecure: bool = False


class Listener:
    """A context manager. The constructor raises UsageError for what is wrong with the options or
    with TLS's files, KernelError if the port is taken."""

    def __init__(self, options: ListenOptions) -> None:
        self._given = options.ps_socket
        self._context = _context(options.tls)
        self._sock = None if self._given is not None else _listen(options)

    @property
    def where(self) -> tuple[str, int] | None:
        """Address and port; None for a socket that was given."""
        if self._sock is None:
            return None
        address, port = self._sock.getsockname()[:2]
        return address, port

    def fileno(self) -> int:
        """Readable when somebody is at the door; -1 for a socket that was given."""
        return -1 if self._sock is None else self._sock.fileno()

    def accept(self, *, last: bool = False) -> Stream:
        """Wait for the next one. `last`: nobody else is let in from now on. Raises PeerError where
        TLS does not come about; another may be waited for then."""
        sock, peer = self.take()
        if last:
            self.close()
        return self.secured(sock, peer)

    def take(self) -> tuple[socket.socket, str]:
        """The first half of `accept`: a connection of which nothing is known yet but its name."""
        if self._sock is None:
            assert self._given is not None
            return socket_of(self._given), f"sender at descriptor {self._given}"
        sock, addr = self._sock.accept()
        return sock, f"sender {addr[0]} port {addr[1]}"

    def secured(self, sock: socket.socket, peer: str) -> Stream:
        """The second half; `sock` becomes the stream's. Raises PeerError."""
        if self._context is None:
            return Stream(sock, peer)
        from ckpt.images.pageserver import tls as tls_of

        return tls_of.secured(sock, self._context, peer)

    def close(self) -> None:
        """May be called twice."""
        if self._sock is not None:
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _context(tls: TlsOptions | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    from ckpt.images.pageserver import tls as tls_of

    return tls_of.context(tls, server=True)


def _listen(options: ListenOptions) -> socket.socket:
    where = f"--address {options.address} --port {options.port}"
    try:
        found = socket.getaddrinfo(
            options.address, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise UsageError(
            "no such address", resource=f"--address {options.address}", why=error.strerror or ""
        ) from error
    family, _, _, _, addr = found[0]
    if not (options.tls or options.insecure or ip_address(str(addr[0]).split("%")[0]).is_loopback):
        raise UsageError(
            "can be reached from other machines",
            resource=f"--address {options.address}",
            why="without --tls anybody there could read or write these images",
            hint="--tls, or --insecure if the network is safe",
        )
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(addr)
        sock.listen(4)
    except OSError as error:
        sock.close()
        raise KernelError("can't listen", resource=where, why=error.strerror or "") from error
    return sock
