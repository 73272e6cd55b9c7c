"""Where pages are, as a client of the holder tells it, in many messages: see Holder.give of
ckpt.mem.missing.client, which is the other side. What comes is checked as far as the server relies
on it; descriptors belong to what is being told until `end`."""

from __future__ import annotations

import os
from collections.abc import Callable

from ckpt.mem.missing.contents import FETCHED, RUN, Contents, Source
from ckpt.mem.tracking.protocol import Message, ProtocolError


class Giving:
    """What one client has told so far."""

    def __init__(self) -> None:
        self._contents: Contents | None = None

    def begin(self) -> None:
        """Anew."""
        self.close()
        self._contents = Contents()

    def take(self, message: Message) -> None:
        """A part. Raises ProtocolError."""
        _PARTS[message.get("op", str)](self._begun(), message)

    def is_like(self, other: Contents) -> bool:
        """Whether pages of one may be taken from the other."""
        own = self._begun()
        same = (own.runs, own.objects) == (other.runs, other.objects)
        return same and _shape(own) == _shape(other)

    def end(self, message: Message) -> Contents:
        """All of it, which is the caller's from here on."""
        contents = self._begun()
        if len(message.blobs) != 1 or len(message.blobs[0]) % FETCHED.size:
            raise ProtocolError("no list of pages")
        contents.first = list(FETCHED.iter_unpack(message.blobs[0]))
        contents.base = message.get("base", str)
        self._contents = None
        return contents

    def close(self) -> None:
        close_all(self._contents)
        self._contents = None

    def _begun(self) -> Contents:
        if self._contents is None:
            raise ProtocolError("nothing has begun")
        return self._contents


def close_all(contents: Contents | None) -> None:
    """Every descriptor."""
    if contents is not None:
        for lfd in (*(source.lfd for source in contents.sources), *contents.folders):
            os.close(lfd)


def _shape(contents: Contents) -> list[tuple[int, int, int, bytes]]:
    return [(s.kind, s.image, s.size, s.sums) for s in contents.sources]


def _folder(contents: Contents, message: Message) -> None:
    contents.folders.append(_one_fd(message))


def _source(contents: Contents, message: Message) -> None:
    kind, image, size, block = (message.get(key, int) for key in ("kind", "image", "size", "block"))
    if len(message.blobs) != 2:
        raise ProtocolError("two blobs are wanted")
    sums, trusted = (bytes(blob) for blob in message.blobs)
    if sums and (block <= 0 or not len(sums) // 8 == len(trusted) == -(-size // block)):
        raise ProtocolError("sums that don't fit their file")
    lfd = _one_fd(message)
    contents.sources.append(Source(kind, lfd, image, size, block, sums, trusted))


def _runs(contents: Contents, message: Message) -> bytes:
    if len(message.blobs) != 1 or len(message.blobs[0]) % RUN.size:
        raise ProtocolError("no runs of pages")
    runs = bytes(message.blobs[0])
    if any(run[2] >= len(contents.sources) for run in RUN.iter_unpack(runs)):
        raise ProtocolError("a run is in no source")
    return runs


def _of_task(contents: Contents, message: Message) -> None:
    contents.runs[message.get("pid", int)] = _runs(contents, message)


def _of_object(contents: Contents, message: Message) -> None:
    contents.objects[message.get("shmid", int)] = _runs(contents, message)


def _one_fd(message: Message) -> int:
    if len(message.fds) != 1:
        raise ProtocolError("one descriptor is wanted")
    return message.fds.pop()


_PARTS: dict[str, Callable[[Contents, Message], None]] = {
    "folder": _folder,
    "source": _source,
    "runs": _of_task,
    "object-runs": _of_object,
}
