"""What the source still has to give when the tree runs at the destination: the only copy of it.

A connection that is lost then loses nothing as long as both sides live. The destination holds its
tree still, and takes another connection in its place, which only the source can make, for it is
the destination that listens. So the source tries for as long as that side may take to notice the
loss, and half a minute. A connection over which nothing comes doesn't begin that time anew.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import PeerError
from ckpt.images.pageserver.connect import connected
from ckpt.images.pageserver.relay import Relay
from ckpt.mem.answering import Answering, Held
from ckpt.migrate import hello, wire

if TYPE_CHECKING:
    from ckpt.images.pageserver.stream import Stream
    from ckpt.migrate.options import MigrateOptions
    from ckpt.report import Report

AGAIN_S = 90.0
"""A minute of silence is the end of a connection (ckpt.images.pageserver.stream)."""

_NAP_S = 0.2
_NOT_OF_THE_CONNECTION = (errno.ENODATA, errno.EPROTO, errno.ENOMEM)


class Remainder:
    """It is answered over `data` from here on, whether the tree runs there yet or not. `nr_bytes`:
    what was given. A context manager: at its end nothing is given any more."""

    def __init__(
        self, options: MigrateOptions, ident: str, data: Stream, held: Held, report: Report
    ) -> None:
        self._options = options
        self._ident = ident
        self._held = held
        self._report = report
        self._before = 0
        self._answering = Answering(data.plain, held)

    def __enter__(self) -> Remainder:
        return self

    def __exit__(self, *_: object) -> None:
        self._answering.stop()

    @property
    def nr_bytes(self) -> int:
        """Over all connections."""
        return self._before + int(self._answering.done.nr_bytes)

    def give(self) -> str:
        """Until all of it is there; why that is not known, or an empty text. The tree runs there
        before this is called."""
        if not self._held.nr:
            return ""  # the rounds have brought everything: nobody will ask
        self._report.stage("pages")
        until, before = 0.0, -1
        lost = self._wait()
        while lost and lost not in _NOT_OF_THE_CONNECTION:
            if self.nr_bytes > before:
                until, before = time.monotonic() + AGAIN_S, self.nr_bytes
            self._report.warn(f"{os.strerror(lost).lower()}: another connection is tried")
            stream = self._again(until)
            if stream is None:
                break
            with Relay(stream) as relay:
                self._before = self.nr_bytes
                self._answering = Answering(relay.sock, self._held)
                lost = self._wait()
        return os.strerror(lost).lower() if lost else ""

    def _wait(self) -> int:
        """The error with which the connection has ended, or 0 where the other side has all."""
        result = -self._answering.wait(
            lambda _: self._report.progress(self.nr_bytes, self._held.nr_bytes)
        )
        self._answering.stop()
        return result

    def _again(self, until: float) -> Stream | None:
        """Another connection; None where there is none in time, or nobody there wants one."""
        while time.monotonic() < until:
            with suppress(PeerError):
                stream = connected(self._options.to, self._options.tls)
                try:
                    wire.send(stream, hello.REST, id=self._ident)
                    said = wire.expect(stream, "welcome", "busy", "gone").kind
                except BaseException:
                    stream.close()
                    raise
                if said == "welcome":
                    return stream
                stream.close()
                if said == "gone":
                    return None
            time.sleep(_NAP_S)
        return None
