"""Pages from a page server that serves a set, or a tree that stands (`--lazy-pages` there).

Each connection is asked first how it speaks. With TLS a thread of ours passes the bytes on: our end
is then the end of the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.images.pageserver.connect import connected, layout_spoken
from ckpt.images.pageserver.relay import Relay
from ckpt.mem.missing.contents import Remote

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ckpt.images.pageserver.connect import ServerAddress
    from ckpt.images.pageserver.tls import TlsOptions


class RemotePages:
    """A context manager; one connection at a time."""

    def __init__(self, where: ServerAddress, tls: TlsOptions | None) -> None:
        self._where = where
        self._tls = tls
        self._relay: Relay | None = None

    def connect(self) -> Remote:
        """A new connection in place of the one before. Raises PeerError, UsageError."""
        self._close()
        stream = connected(self._where, self._tls)
        try:
            layout = layout_spoken(stream)
        except BaseException:
            stream.close()
            raise
        self._relay = Relay(stream)
        return Remote(self._relay.sock.fileno(), layout.size)

    def _close(self) -> None:
        if self._relay is not None:
            self._relay.close()
            self._relay = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
