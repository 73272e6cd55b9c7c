"""Whatever comes over the wire: the receiver ends, with an error of ours and nothing left behind,
or with images that can be read."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.errors import CkptError
from ckpt.images.pagemap import PE_LAZY, PE_PRESENT, Run
from ckpt.images.pageserver.protocol import NARROW, WIDE, Command, Layout
from ckpt.images.reader import ImageSet
from ckpt.images.types import PAGEMAPS
from tests.support.pageserver import PAGE, Server, message, names, pages

LAYOUTS = st.sampled_from([NARROW, WIDE])
NAMES = st.sampled_from(["pagemap-7", "pagemap-8", "pagemap-shmem-3"])
FLAGS = st.sampled_from([PE_PRESENT, PE_PRESENT | PE_LAZY, PE_LAZY])


@st.composite
def images(draw: st.DrawFn, layout: Layout) -> list[bytes]:
    """The pieces of a session that is right: messages and pages."""
    pieces = []
    for name in draw(st.lists(NAMES, unique=True, max_size=3)):
        pieces.append(message(Command.OPEN2, name, layout=layout))
        at = draw(st.integers(0, 1 << 30)) * PAGE
        for gap, nr_pages in draw(
            st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=6)
        ):
            at += gap * PAGE
            run = Run(at, nr_pages, draw(FLAGS))
            pieces.append(message(Command.ADD_F, name, run, layout))
            if run.flags & PE_PRESENT:
                pieces.append(pages(nr_pages, seed=at))
            at += nr_pages * PAGE
    return [*pieces, message(Command.CLOSE, layout=layout)]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    pieces = draw(images(draw(LAYOUTS)))
    for what in draw(st.lists(st.sampled_from(["drop", "double", "swap"]), max_size=2)):
        at = draw(st.integers(0, len(pieces) - 1))
        if what == "drop" and len(pieces) > 1:
            del pieces[at]
        elif what == "double":
            pieces.insert(at, pieces[at])
        else:
            other = draw(st.integers(0, len(pieces) - 1))
            pieces[at], pieces[other] = pieces[other], pieces[at]
    data = bytearray(b"".join(pieces))
    for _ in range(draw(st.integers(0, 4))):
        # Headers are few among the pages: most mutations go there.
        at = draw(st.integers(0, len(data) - 1) | st.integers(0, min(len(data), 120) - 1))
        data[at] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    if draw(st.booleans()):
        data += draw(st.binary(max_size=100))
    return bytes(data)


def received(directory: Path, stream: bytes) -> tuple[BaseException | None, bytes]:
    """What the server raised, and what it answered."""
    answers = b""
    with Server(directory) as server:
        try:
            server.sock.sendall(stream)
            server.sock.shutdown(socket.SHUT_WR)
            while got := server.sock.recv(4096):
                answers += got
        except (BrokenPipeError, ConnectionResetError):
            # The server has ended already; which is what is looked at below.
            assert server.sock.fileno() >= 0
        return server.end(), answers


@settings(max_examples=300)
@given(stream=mutated() | st.binary(max_size=2000))
def test_a_mutated_stream(stream: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        directory = Path(folder)
        error, _ = received(directory, stream)
        if error is not None:
            assert isinstance(error, CkptError), repr(error)
            assert names(directory) == []
        else:
            readable(directory)
    assert len(os.listdir("/proc/self/fd")) == before


def readable(directory: Path) -> None:
    with ImageSet(directory, pages_only=True) as found:
        assert found.has_sums == bool(found.names("pages"))
        for stem in PAGEMAPS:
            for number in found.names(stem):
                found.pagemap(f"{stem}-{number}")
        found.verify_pages().wait()
        found.verify_rest()


@settings(max_examples=50)
@given(data=st.data(), layout=LAYOUTS)
def test_a_right_stream_is_taken(data: st.DataObject, layout: Layout) -> None:
    pieces = data.draw(images(layout))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        error, answers = received(Path(folder), b"".join(pieces))
        assert error is None
        opened = sum(piece[:1] == b"\x04" and len(piece) == layout.size for piece in pieces)
        assert answers == bytes(opened + 4)
        readable(Path(folder))


@settings(max_examples=50)
@given(data=st.data(), cut=st.floats(0, 1, exclude_max=True))
def test_a_stream_that_breaks_off_leaves_nothing(data: st.DataObject, cut: float) -> None:
    stream = b"".join(data.draw(images(NARROW)))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        error, _ = received(Path(folder), stream[: int(cut * len(stream))])
        assert isinstance(error, CkptError)
        assert names(Path(folder)) == []
