"""Pages out of a pipe, with their messages between them, into a stream: a sender's thread.

Bytes are copied through one buffer. A wait for the producer ends when the server goes away or the
sender gives up, too; then the pipe's reading end is closed, so that the producer does not wait
either.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images.pagemap import PE_PRESENT, Run
from ckpt.images.pageserver.protocol import Command, Message
from ckpt.units import PAGE_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.images.pageserver.protocol import Layout
    from ckpt.images.pageserver.stream import Stream

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_BUFFER = 256 << 10
_MAX_PAGES = 4096
_MAX_PARTS = 512


class Pipe:
    """Between producer and thread. Each end is closed once, by whoever comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)
        # Without the privilege for more it stays smaller, and works.
        with suppress(OSError):
            fcntl.fcntl(self.writer, _F_SETPIPE_SZ, _PIPE_SIZE)

    def close_reader(self) -> None:
        with self._lock:
            lfd, self.reader = self.reader, -1
        if lfd >= 0:
            os.close(lfd)

    def close_writer(self) -> None:
        with self._lock:
            lfd, self.writer = self.writer, -1
        if lfd >= 0:
            os.close(lfd)


class Pump:
    """Into `stream`, whose messages have `layout`. `wake` becomes readable to give up."""

    def __init__(self, stream: Stream, layout: Layout, wake: int) -> None:
        self._stream = stream
        self._layout = layout
        self._wake = wake
        self._buffer = memoryview(bytearray(_BUFFER))

    def move(self, runs: Sequence[Run], image: int, pipe: Pipe) -> None:
        """All of `runs`, with the pages that are present out of `pipe`.

        Raises PeerError, and ImageError if the pipe ends before all pages came.
        """
        waits = select.poll()
        waits.register(pipe.reader, select.POLLIN)
        waits.register(self._stream.fileno(), select.POLLRDHUP)
        waits.register(self._wake, select.POLLIN)
        parts: list[bytes | memoryview] = []
        used = 0
        for message, nr_bytes in self._messages(runs, image):
            parts.append(message)
            left = nr_bytes
            while left:
                end = min(used + left, _BUFFER)
                parts.append(self._buffer[used:end])
                left -= end - used
                used = end
                if used == _BUFFER:
                    self._pass_on(parts, used, pipe.reader, waits)
                    used = 0
            if len(parts) >= _MAX_PARTS:
                self._pass_on(parts, used, pipe.reader, waits)
                used = 0
        self._pass_on(parts, used, pipe.reader, waits)

    def _messages(self, runs: Sequence[Run], image: int) -> Iterator[tuple[bytes, int]]:
        """Each with the number of bytes of pages that follow it. Long runs are several messages."""
        encode = self._layout.encode
        for addr, nr_pages, flags in runs:
            most = _MAX_PAGES if flags & PE_PRESENT else self._layout.max_pages
            at, left = addr, nr_pages
            while left:
                some = min(left, most)
                message = encode(Message(Command.ADD_F, flags, some, at, image))
                yield message, some << PAGE_SHIFT if flags & PE_PRESENT else 0
                at += some << PAGE_SHIFT
                left -= some

    def _pass_on(
        self, parts: list[bytes | memoryview], nr_bytes: int, reader: int, waits: select.poll
    ) -> None:
        """Fill `nr_bytes` of the buffer, of which `parts` hold views, and send `parts`."""
        at = 0
        while at < nr_bytes:
            try:
                got = os.readv(reader, [self._buffer[at:nr_bytes]])
            except BlockingIOError:
                self._wait(waits)
                continue
            if not got:
                raise ImageError("fewer pages came than were announced", resource="page sender")
            at += got
        if parts:
            self._stream.send(parts)
            parts.clear()

    def _wait(self, waits: select.poll) -> None:
        for lfd, _ in waits.poll():
            if lfd == self._wake:
                raise ImageError("given up", resource="page sender")
            if lfd == self._stream.fileno():
                raise self._stream.gone()
