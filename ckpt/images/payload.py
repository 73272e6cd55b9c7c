"""How many raw bytes follow a message in an image, by the rule of the image's type.

A rule looks at the message just parsed and at what is left of the file, and returns a Span: the
bytes that belong to the message and how many of padding follow. It never trusts a size: framing
checks the span against what is left, and the one rule that walks further messages checks by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ckpt.images.types import Payload, message_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    Rule = Callable[[Message, memoryview], "Span"]


class Span(NamedTuple):
    """`size` bytes, then `padding` bytes of nothing."""

    size: int
    padding: int = 0


def padded(size: int, unit: int) -> Span:
    """A span of `size` bytes that is filled up to a multiple of `unit`."""
    return Span(size, -size % unit)


def _ghost(message: Message, rest: memoryview) -> Span:
    if message.DESCRIPTOR.name == "ghost_chunk_entry":
        return Span(_number(message, "len"))
    return Span(0 if _number(message, "chunks") else len(rest))


def _shm(message: Message, _rest: memoryview) -> Span:
    return Span(0) if _number(message, "in_pagemaps") else padded(_number(message, "size"), 4)


def _msg(message: Message, rest: memoryview) -> Span:
    """Walk `qnum` records. A record that does not fit makes the span larger than the rest."""
    at = 0
    text_class = message_class("ipc_msg.ipc_msg")
    for _ in range(_number(message, "qnum")):
        size = int.from_bytes(rest[at : at + 4], "little")
        at += 4
        if at + size > len(rest):
            return Span(at + size)
        text = text_class.FromString(bytes(rest[at : at + size]))
        at += size
        at += sum(padded(_number(text, "msize"), 8))
        if at > len(rest):
            return Span(at)
    return Span(at)


def _number(message: Message, field: str) -> int:
    return int(getattr(message, field))


RULES: dict[Payload, Rule | None] = {
    Payload.NONE: None,
    Payload.BYTES: lambda message, _rest: Span(_number(message, "bytes")),
    Payload.LENGTH: lambda message, _rest: Span(_number(message, "length")),
    Payload.TCP_QUEUES: lambda message, _rest: Span(
        _number(message, "inq_len") + _number(message, "outq_len")
    ),
    Payload.GHOST: _ghost,
    Payload.SHM: _shm,
    Payload.SEM: lambda message, _rest: padded(2 * _number(message, "nsems"), 8),
    Payload.MSG: _msg,
}
