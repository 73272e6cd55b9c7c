"""The messages of CRIU's page server. Pure: bytes in, numbers out.

    narrow (CRIU before 4.2)  u32 command, u32 nr_pages, u64 addr, u64 image
    wide (CRIU 4.2)           u32 command, u32 of padding, u64 nr_pages, u64 addr, u64 image

All little-endian. The upper 16 bits of the command are the flags of a run (ckpt.images.pagemap).
`image` is the number of the image and, in its lowest 8 bits, its kind. A session:

    OPEN2 image          -> 1 byte: whether the receiver has a parent of this image
    ADD_F image, run        then the pages, if the run is present
    ...                     more runs, ascending; then more images
    CLOSE                -> i32: 0 once everything is safe, else the images are gone

PARENT asks what OPEN2 tells, without opening, and is answered with an i32. FORCE_CLOSE is CLOSE by
a sender whose socket others hold too: the receiver must not wait for the end of the stream. OPEN,
ADD and HOLE are older forms: an OPEN2 without answer, an ADD_F of a present and of a parent's run.

No session tells its layout. A session begins with OPEN, OPEN2 or PARENT, whose image is not 0 and
whose other fields are: so the first 24 bytes are narrow if and only if the last 8 are not zero. A
sender finds out with a PARENT of which it sends 24 bytes first: see ckpt.images.pageserver.connect.
One that was not answered in time goes on as to a wide receiver, which a receiver that knows both
can tell (`was_taken_for_wide`).

Facts: criu/page-xfer.c and criu/include/page-xfer.h, 3.17 to 4.2 (pull requests 2750 and 2757 for
the wide layout).
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from ckpt.errors import PeerError
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.images.types import image_name, parse_name


class Command(enum.IntEnum):
    ADD = 1
    HOLE = 2
    OPEN = 3
    OPEN2 = 4
    PARENT = 5
    ADD_F = 6
    GET = 7
    CLOSE = 0x1023
    FORCE_CLOSE = 0x1024


class Message(NamedTuple):
    command: int
    flags: int = 0
    nr_pages: int = 0
    addr: int = 0
    image: int = 0


ANSWER = struct.Struct("<i")
HAS_PARENT = struct.Struct("<B")
_IMAGE = struct.Struct("<Q")
OLD_FLAGS: dict[int, int] = {Command.ADD: PE_PRESENT, Command.HOLE: PE_PARENT}
OPENING = (Command.OPEN, Command.OPEN2, Command.PARENT)
CLOSING = (Command.CLOSE, Command.FORCE_CLOSE)

_FLAG_BITS = 16
_COMMAND_MASK = (1 << _FLAG_BITS) - 1
_KIND_BITS = 8
_KIND_MASK = (1 << _KIND_BITS) - 1
_KINDS = {1: "pagemap", 2: "pagemap-shmem"}
_MAX_NUMBER = (1 << 32) - 1
# What CRIU up to 3.2 sent by mistake; see decode_pm() there.
_OLD_KINDS = {
    **dict.fromkeys((10, 11, 16, 17), "pagemap"),
    **dict.fromkeys((27, 28, 29, 32, 33, 34), "pagemap-shmem"),
}


REST = 8
"""So many bytes of the wide form of a question stand behind those of the narrow one."""


class Layout:
    """How a message stands in the stream."""

    def __init__(self, form: str, max_pages: int) -> None:
        self._struct = struct.Struct(form)
        self.size = self._struct.size
        self.max_pages = max_pages

    def encode(self, message: Message) -> bytes:
        command, flags, nr_pages, addr, image = message
        return self._struct.pack(command | flags << _FLAG_BITS, nr_pages, addr, image)

    def decode(self, data: memoryview, at: int) -> Message:
        command, nr_pages, addr, image = self._struct.unpack_from(data, at)
        return Message(command & _COMMAND_MASK, command >> _FLAG_BITS, nr_pages, addr, image)


NARROW = Layout("<IIQQ", (1 << 32) - 1)
WIDE = Layout("<I4xQQQ", (1 << 63) - 1)


def layout_of(first: memoryview) -> Layout:
    """The layout of a session, by its first NARROW.size bytes.

    A CLOSE at once is the same in both as far as these bytes go, and taken for narrow.
    """
    message = NARROW.decode(first, 0)
    return WIDE if message.command in OPENING and message.image == 0 else NARROW


def was_taken_for_wide(question: Message, then: memoryview) -> bool:
    """Whether the sender of `question`, a narrow PARENT that began the session, has given up
    waiting for the answer: the bytes `then` that follow are the rest of its wide form. They begin
    no narrow message, for the number of an image is no command."""
    return question.image > _KIND_MASK and then == _IMAGE.pack(question.image)


def image_id(name: str) -> int:
    """The `image` of "pagemap-7" or "pagemap-shmem-3"."""
    parsed = parse_name(name)
    for kind, stem in _KINDS.items():
        if stem == parsed.type.stem and parsed.number is not None:
            return parsed.number << _KIND_BITS | kind
    raise ValueError(f"{name} is no image of pages")


def name_of(image: int) -> str:
    """The name of `image`. Raises PeerError if there is no such kind, or its number is none."""
    kind, number = image & _KIND_MASK, image >> _KIND_BITS
    stem = _KINDS.get(kind) or _OLD_KINDS.get(kind)
    if stem is None or number > _MAX_NUMBER:
        raise PeerError("asked for an image that there is not", why=f"its number is {image:#x}")
    return image_name(stem, number)
