"""The messages of a page server, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.errors import PeerError
from ckpt.images.pageserver.protocol import (
    NARROW,
    WIDE,
    Command,
    Layout,
    Message,
    image_id,
    layout_of,
    name_of,
)

FIELDS = st.builds(
    Message,
    st.sampled_from(list(Command)),
    st.integers(0, 7),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)


@pytest.mark.parametrize("layout", [NARROW, WIDE], ids=["narrow", "wide"])
@given(message=FIELDS)
def test_round_trip(layout: Layout, message: Message) -> None:
    data = layout.encode(message)
    assert len(data) == layout.size
    assert layout.decode(memoryview(b"x" + data), 1) == message


def test_bytes_are_crius() -> None:
    """As the structure is laid out on x86-64; the flags in the upper half of the command."""
    message = Message(Command.ADD_F, 4, 3, 0x7000, 0x701)
    start, end = "06000400", "0070000000000000" + "0107000000000000"
    assert NARROW.encode(message).hex() == start + "03000000" + end
    assert WIDE.encode(message).hex() == start + "00000000" + "0300000000000000" + end
    assert NARROW.encode(Message(Command.CLOSE))[:4].hex() == "23100000"
    assert NARROW.encode(Message(Command.FORCE_CLOSE))[:4].hex() == "24100000"


@pytest.mark.parametrize("command", [Command.OPEN, Command.OPEN2, Command.PARENT])
@pytest.mark.parametrize("layout", [NARROW, WIDE], ids=["narrow", "wide"])
def test_the_first_message_tells_its_layout(layout: Layout, command: Command) -> None:
    first = layout.encode(Message(command, image=image_id("pagemap-1")))
    assert layout_of(memoryview(first)[: NARROW.size]) is layout


@pytest.mark.parametrize(
    ("name", "image"),
    [("pagemap-7", 0x701), ("pagemap-shmem-3", 0x302), ("pagemap-4194304", 0x40000001)],
)
def test_numbers_of_images(name: str, image: int) -> None:
    assert image_id(name) == image
    assert name_of(image) == name


@pytest.mark.parametrize("kind", [10, 11, 16, 17])
def test_kinds_of_old_senders(kind: int) -> None:
    assert name_of(0x500 | kind) == "pagemap-5"


@pytest.mark.parametrize("image", [0, 0x700, 0x703, 0x7FF, 2**64 - 1, 1 << 40 | 1])
def test_numbers_of_no_image(image: int) -> None:
    with pytest.raises(PeerError, match="image that there is not"):
        name_of(image)


@pytest.mark.parametrize("name", ["pages-1", "core-1", "inventory"])
def test_images_without_runs_have_no_number(name: str) -> None:
    with pytest.raises(ValueError, match="no image of pages"):
        image_id(name)
