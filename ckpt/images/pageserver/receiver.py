"""The receiving end: a stream of messages and pages becomes images.

The stream is hostile: every number is checked before it is used, nothing is allocated by its word,
and pages are written as they come, out of one buffer. Whatever is wrong raises PeerError or
ImageError, and what was received so far is gone with the ReceivedImages' scope.

One image is open at a time. Its pages pass in pieces of up to _BUFFER bytes, so that Python has
little to do for a page; many short runs are written together.

After CLOSE everything is committed and only then answered: 0, or the exit code of what failed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, PeerError
from ckpt.images.directory import cannot_write
from ckpt.images.pagemap import PE_PRESENT, Run
from ckpt.images.pageserver import protocol
from ckpt.images.pageserver.protocol import (
    ANSWER,
    CLOSING,
    HAS_PARENT,
    NARROW,
    OLD_FLAGS,
    WIDE,
    Command,
)
from ckpt.units import PAGE_SHIFT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.images.pageserver.protocol import Layout, Message
    from ckpt.images.pageserver.store import ReceivedImages
    from ckpt.images.pageserver.stream import Stream

_BUFFER = 512 << 10
_IOV_MAX = 1024


class Receiver:
    """Receives from `stream` into `images`; both stay the caller's. `progress` is told the bytes of
    pages so far."""

    def __init__(
        self, stream: Stream, images: ReceivedImages, progress: Callable[[int], None]
    ) -> None:
        self._stream = stream
        self._images = images
        self._progress = progress
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0
        self._pages: list[memoryview] = []
        self._open = -1
        self._handlers: dict[int, Callable[[Message], None]] = {
            Command.OPEN: self._on_open,
            Command.OPEN2: self._on_open,
            Command.PARENT: self._on_parent,
            Command.ADD: self._on_run,
            Command.HOLE: self._on_run,
            Command.ADD_F: self._on_run,
        }

    def run(self) -> Command:
        """Returns when the images are committed and the sender knows: how it took its leave."""
        layout = self._layout()
        while (message := self._next(layout)).command not in CLOSING:
            handler = self._handlers.get(message.command)
            if handler is None:
                raise PeerError(
                    "sent what is no command of a page server",
                    resource=self._stream.peer,
                    why=f"command {message.command:#x}",
                )
            handler(message)
        self._flush()
        try:
            self._images.commit()
        except CkptError as error:
            self._answer(error.exit_code)
            raise
        self._answer(0)
        return Command(message.command)

    def _answer(self, status: int) -> None:
        self._stream.send([ANSWER.pack(status)])

    def _layout(self) -> Layout:
        """How the sender speaks; the question by which it finds out how we do is answered then."""
        self._need(NARROW.size)
        layout = protocol.layout_of(self._buffer[self._start : self._end])
        question = layout.decode(self._buffer, self._start) if layout is NARROW else None
        if question is None or question.command != Command.PARENT:
            return layout
        self._start += NARROW.size
        self._on_parent(question)
        self._need(protocol.REST)
        then = self._buffer[self._start : self._start + protocol.REST]
        if not protocol.was_taken_for_wide(question, then):
            return NARROW
        self._start += protocol.REST
        return WIDE

    def _next(self, layout: Layout) -> Message:
        self._need(layout.size)
        message = layout.decode(self._buffer, self._start)
        self._start += layout.size
        return message

    def _on_open(self, message: Message) -> None:
        self._flush()
        has_parent = self._images.open(protocol.name_of(message.image))
        self._open = message.image
        if message.command == Command.OPEN2:
            self._stream.send([HAS_PARENT.pack(has_parent)])

    def _on_parent(self, message: Message) -> None:
        self._answer(self._images.has_parent(protocol.name_of(message.image)))

    def _on_run(self, message: Message) -> None:
        if message.image != self._open:
            raise PeerError(
                "sent pages of an image that is not open",
                resource=self._stream.peer,
                why=f"its number is {message.image:#x}",
            )
        flags = OLD_FLAGS.get(message.command, message.flags)
        self._images.add(Run(message.addr, message.nr_pages, flags))
        if flags & PE_PRESENT:
            self._take(message.nr_pages << PAGE_SHIFT)

    def _take(self, left: int) -> None:
        """The next `left` bytes are pages."""
        while left:
            if self._start == self._end:
                self._need(min(left, _BUFFER))
            end = min(self._end, self._start + left)
            self._pages.append(self._buffer[self._start : end])
            left -= end - self._start
            self._start = end

    def _need(self, nr_bytes: int) -> None:
        """Have so many bytes in the buffer, at most all of it."""
        if self._end - self._start >= nr_bytes:
            return
        self._flush()
        rest = self._end - self._start
        self._buffer[:rest] = self._buffer[self._start : self._end]
        self._start, self._end = 0, rest
        while self._end < nr_bytes:
            got = self._stream.receive(self._buffer[self._end :])
            if not got:
                raise self._stream.gone()
            self._end += got

    def _flush(self) -> None:
        """Write the pages that still stand in the buffer."""
        if not self._pages:
            return
        nr_bytes = 0
        lfd = self._images.pages_lfd
        try:
            for first in range(0, len(self._pages), _IOV_MAX):
                nr_bytes += _write(lfd, self._pages[first : first + _IOV_MAX])
        except OSError as error:
            raise cannot_write(self._images.directory, error) from error
        self._pages.clear()
        self._images.advance(nr_bytes)
        self._progress(self._images.nr_bytes)


def _write(lfd: int, parts: list[memoryview]) -> int:
    """All of `parts`. How many bytes they have."""
    total = 0
    while parts:
        written = os.writev(lfd, parts)
        total += written
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if written:
            parts[0] = parts[0][written:]
    return total
