"""Bytes of an image file to messages and back. Pure: no file is touched here.

    ordinary   u32 0x54564319, u32 type's magic, then records
    service    u32 0x55105940, u32 type's magic, then records
    inventory  u32 type's magic, then records
    record     u32 size, `size` bytes of protobuf, payload (ckpt.images.payload)

All numbers are little-endian. Input is hostile: each size is checked against what is left before
anything is cut out, a message is at most MAX_MESSAGE, and a text field that is not UTF-8 is refused
unless it is a name (ckpt.images.text). What parses costs memory in proportion to the
file. Whether the contents make sense is not checked here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError
from ckpt.images.payload import RULES, Span
from ckpt.images.text import bad_text, has_text
from ckpt.images.types import COMMON_MAGIC, SERVICE_MAGIC, Framing, ImageType, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

MAX_MESSAGE = 64 << 20
"""Bytes. The largest that a real tree makes, an mm with 65,000 mappings, has about 4 MiB."""

_U32 = struct.Struct("<I")
_PREFIX = {
    Framing.INVENTORY: b"",
    Framing.ORDINARY: _U32.pack(COMMON_MAGIC),
    Framing.SERVICE: _U32.pack(SERVICE_MAGIC),
}


class Record(NamedTuple):
    """A message, its payload without padding (a view into the image) and where it began."""

    message: Message
    payload: memoryview
    offset: int


def head(image_type: ImageType) -> bytes:
    """What a file of this type begins with."""
    if image_type.framing is Framing.RAW:
        return b""
    return _PREFIX[image_type.framing] + _U32.pack(image_type.magic)


def encode(name: str, messages: Iterable[Message | tuple[Message, bytes]]) -> bytes:
    """The file of image `name`. A message with a payload is a pair; padding is added here.

    Raises ImageError if a required field is unset, a message is of another type than the image's,
    or a payload is not as long as its message says.
    """
    image_type = parse_name(name).type
    if image_type.framing is Framing.RAW:
        raise ImageError("has no messages", resource=name)
    parts = [head(image_type)]
    rule = RULES[image_type.payload]
    for index, item in enumerate(messages):
        if index and image_type.single:
            raise ImageError("holds one message", resource=name)
        message, payload = item if isinstance(item, tuple) else (item, b"")
        if not isinstance(message, image_type.message(index)):
            raise ImageError(
                f"does not hold a {message.DESCRIPTOR.name}", resource=f"{name}, message {index}"
            )
        if not message.IsInitialized():
            raise ImageError(f"lacks {_unset(message)}", resource=f"{name}, message {index}")
        body = message.SerializeToString()
        span = rule(message, memoryview(payload)) if rule else Span(0)
        if span.size != len(payload) or len(body) > MAX_MESSAGE:
            raise ImageError(
                f"has {len(body)} + {len(payload)} bytes where {span.size} of payload belong",
                resource=f"{name}, message {index}",
            )
        parts += (_U32.pack(len(body)), body, payload, bytes(span.padding))
    return b"".join(parts)


def decode(name: str, data: bytes, file: str = "") -> list[Record]:
    """Take the file of image `name` apart. `file` names it in errors.

    Raises ImageError, with file and offset, for a wrong magic, a size that does not fit, a message
    that does not parse, lacks a required field or holds text that is not UTF-8.
    """
    return decode_as(parse_name(name).type, data, file or name)


def decode_as(image_type: ImageType, data: bytes, file: str) -> list[Record]:
    """As decode, where the type is known."""
    from google.protobuf.message import DecodeError

    at = _check_head(image_type, data, file)
    view = memoryview(data)
    rule = RULES[image_type.payload]
    parse, later = image_type.message(0).FromString, image_type.message(1).FromString
    texts = has_text(image_type.message(0)) or has_text(image_type.message(1))
    records: list[Record] = []
    payload = padding = 0
    while at < len(view):
        begin = at
        if records and image_type.single:
            raise _damaged(file, at, "a second message where there may be one")
        if len(view) - at < 4:
            raise _damaged(file, at, "the file ends inside a size")
        (size,) = _U32.unpack_from(view, at)
        at += 4
        if size > MAX_MESSAGE or size > len(view) - at:
            left = len(view) - at
            raise _damaged(file, begin, f"a message of {size} bytes where {left} are left")
        try:
            message = parse(data[at : at + size])
            if texts or not message.IsInitialized():
                _check(message, file, begin)
            at += size
            if rule:
                payload, padding = rule(message, view[at:])
        except DecodeError as error:
            raise _damaged(file, begin, f"does not parse ({error})") from error
        parse = later
        if payload + padding > len(view) - at:
            left = len(view) - at
            raise _damaged(
                file, at, f"a payload of {payload + padding} bytes where {left} are left"
            )
        records.append(Record(message, view[at : at + payload], begin))
        at += payload + padding
    return records


def end_of_first(image_type: ImageType, data: bytes) -> int:
    """Where the first record ends, one without payload; the end of `data` if that is earlier."""
    at = len(head(image_type))
    if len(data) < at + 4:
        return len(data)
    return min(at + 4 + int(_U32.unpack_from(data, at)[0]), len(data))


def _check_head(image_type: ImageType, data: bytes, file: str) -> int:
    expected = head(image_type)
    if data[: len(expected)] == expected:
        return len(expected)
    if len(data) < len(expected):
        raise _damaged(file, len(data), "the file ends inside its magic")
    found = data[: len(expected)].hex(" ", 4)
    raise ImageError(
        "is not such an image",
        resource=file,
        why=f"it begins with {found} instead of {expected.hex(' ', 4)}",
        hint="another file may have been copied over it",
    )


def _check(message: Message, file: str, at: int) -> None:
    if not message.IsInitialized():
        raise _damaged(file, at, f"a {message.DESCRIPTOR.name} lacks {_unset(message)}")
    if field := bad_text(message):
        raise _damaged(file, at, f"{field} is not UTF-8")


def _unset(message: Any) -> str:
    return ", ".join(message.FindInitializationErrors())


def _damaged(file: str, offset: int, why: str) -> ImageError:
    return ImageError(
        f"damaged at byte {offset}",
        resource=file,
        why=why,
        hint="take the image from its origin again",
    )
