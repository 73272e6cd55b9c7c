"""Frames between the two ends of a migration: a kind, some fields, and bytes.

    u32 length of the head, u64 length of the bytes (both little-endian), the head, the bytes

The head is JSON, an object with its kind as "kind". What comes is hostile: lengths are bounded, and
fields have the type that is asked for, or PeerError is raised.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from ckpt.errors import PeerError
from ckpt.record import field, record

if TYPE_CHECKING:
    from ckpt.images.pageserver.stream import Stream

VERSION = 2
MAX_HEAD = 8 << 20
MAX_BYTES = 4 << 20

_LENGTHS = struct.Struct("<IQ")


@record(frozen=True)
class Frame:
    """One message."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""

    def text(self, name: str) -> str:
        """Raises PeerError unless there is such a text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self._wrong(name)
        return value

    def number(self, name: str) -> int:
        """Raises PeerError unless there is such a number, of up to 63 bits and not negative."""
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self._wrong(name)
        return value

    def flag(self, name: str) -> bool:
        """Raises PeerError unless there is such a flag."""
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def numbers(self, name: str) -> list[int]:
        """Raises PeerError unless there is such a list, of numbers as of `number`."""
        values = self.fields.get(name)
        if not isinstance(values, list) or not all(
            isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 63 for n in values
        ):
            raise self._wrong(name)
        return values

    def _wrong(self, name: str) -> PeerError:
        return PeerError(f"sent a frame {self.kind!r} whose {name!r} makes no sense")


def encode(kind: str, data: bytes = b"", /, **fields: Any) -> bytes:
    """The bytes of a frame."""
    head = json.dumps({**fields, "kind": kind}, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(head), len(data)) + head + data


def send(stream: Stream, kind: str, data: bytes = b"", /, **fields: Any) -> None:
    """Raises PeerError."""
    stream.send([encode(kind, data, **fields)])


def pass_on(stream: Stream, frame: Frame) -> None:
    """Send a frame that came from elsewhere."""
    stream.send([encode(frame.kind, frame.data, **frame.fields)])


def receive(stream: Stream) -> Frame:
    """The next frame. Raises PeerError, also for an end of the stream."""
    head_len, data_len = _LENGTHS.unpack(stream.receive_exactly(_LENGTHS.size))
    if head_len > MAX_HEAD or data_len > MAX_BYTES:
        raise PeerError(
            "sent what is no frame of a migration",
            resource=stream.peer,
            why=f"one of {head_len} and {data_len} bytes",
        )
    try:
        fields = json.loads(stream.receive_exactly(head_len))
        kind = fields.pop("kind")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise PeerError("sent a frame that can't be read", resource=stream.peer) from error
    if not isinstance(kind, str):
        raise PeerError("sent a frame without a kind", resource=stream.peer)
    return Frame(kind, fields, stream.receive_exactly(data_len))


def expect(stream: Stream, *kinds: str) -> Frame:
    """The next frame, which must be one of `kinds`. One that tells of a failure raises what it
    tells as PeerError."""
    frame = receive(stream)
    if frame.kind in kinds:
        return frame
    if frame.kind == "failed":
        raise PeerError("can't go on", resource=stream.peer, why=frame.text("why")[:2000])
    if frame.kind == "lost":
        raise stream.gone()
    raise PeerError(
        f"sent {frame.kind[:40]!r} where {' or '.join(kinds)} was due", resource=stream.peer
    )
