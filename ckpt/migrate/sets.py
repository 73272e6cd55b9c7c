"""Sets of images over the data connection, one after the other: both ends.

    set (name, the parent's name)  ->
    a session of a page server     <>    all pages and their pagemaps
    file (name, bytes) ...         ->    every other image
    whole                          ->
                                   <- kept, or failed

Only `kept` says that the set is with the destination, whole. There a file gets its own name after
all have come, the inventory last: what was broken off can't be taken for a set. Nothing is synced
to a disk: a machine that crashes loses what runs on it, a tree that has just come like any other.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import ImageError, PeerError
from ckpt.images import directory as files_of
from ckpt.images.pageserver.receiver import Receiver
from ckpt.images.pageserver.store import ReceivedImages
from ckpt.images.types import INVENTORY, file_name, parse_file_name
from ckpt.mem.resolve import resolve
from ckpt.migrate import wire

if TYPE_CHECKING:
    from ckpt.images.pageserver.stream import Stream
    from ckpt.report import Report

FINAL = "final"
_NAME = re.compile(r"final|pre-[1-9][0-9]{0,2}")
_BY_PAGE_SERVER = ("pages", "pagemap", "pagemap-shmem", "ckpt-checksums-pages")
_MAX_FILE = 1 << 30


def round_name(name: str) -> str:
    """`name`, which must be that of a round's set. Raises PeerError."""
    if name == FINAL or not _NAME.fullmatch(name):
        raise PeerError("speaks of a round that is none", why=repr(name[:100]))
    return name


def announce(stream: Stream, name: str, parent: str) -> None:
    """Of the source: a set begins, and next the pages. `parent` is the name of the set before it,
    or empty."""
    wire.send(stream, "set", name=name, parent=parent)


def send_files(stream: Stream, folder: Path) -> int:
    """Of the source, after the pages: every image in `folder`, and wait until the set is kept.

    Returns how many bytes they have. Raises PeerError, ImageError.
    """
    total = 0
    dir_lfd = files_of.open_directory(os.fspath(folder))
    try:
        for file in sorted(os.listdir(dir_lfd)):
            image = parse_file_name(file)
            if image is not None and image.type.suffix == ".img":
                total += _send_file(stream, dir_lfd, file)
    finally:
        os.close(dir_lfd)
    wire.send(stream, "whole")
    wire.expect(stream, "kept")
    return total


def _send_file(stream: Stream, dir_lfd: int, file: str) -> int:
    lfd = files_of.open_existing(dir_lfd, file, file)
    try:
        size = os.fstat(lfd).st_size
        at = 0
        while True:
            data = os.pread(lfd, wire.MAX_BYTES, at)
            wire.send(stream, "file", data, name=file, first=at == 0)
            at += len(data)
            if at >= size or not data:
                return at
    finally:
        os.close(lfd)


def receive_sets(stream: Stream, root: Path, report: Report) -> bool:
    """Of the destination: receive into folders below `root` until the source is done. Whether it
    is to be asked for the rest of the last one.

    Raises PeerError, ImageError; what goes wrong with files is told to the source, too.
    """
    while (frame := wire.expect(stream, "set", "lazy", "done")).kind == "set":
        _receive_set(stream, frame, root, report)
        wire.send(stream, "kept")
    return frame.kind == "lazy"


def _receive_set(stream: Stream, frame: wire.Frame, root: Path, report: Report) -> None:
    name, parent = frame.text("name"), frame.text("parent")
    if not _NAME.fullmatch(name) or not (_NAME.fullmatch(parent) or not parent):
        raise PeerError("sent a set with a name that is none", resource=stream.peer)
    folder = root / name
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise files_of.cannot_write(str(folder), error) from error
    prev = f"../{parent}" if parent else ""
    # Sums made here would tell nothing about the way here; those of the other images come along.
    with ReceivedImages(
        folder, prev=prev, checksums=False, durable=False, resolver=resolve
    ) as images:
        Receiver(stream, images, lambda done: report.progress(done, 0)).run()
    try:
        _receive_files(stream, folder)
    except PeerError:
        raise
    except ImageError as error:
        wire.send(stream, "failed", why=str(error))
        raise
    report.info(f"{name} is there")


def _receive_files(stream: Stream, folder: Path) -> None:
    dir_lfd = files_of.open_directory(os.fspath(folder))
    sizes: dict[str, int] = {}
    try:
        while (frame := wire.expect(stream, "file", "whole")).kind == "file":
            _receive_file(dir_lfd, frame, sizes, folder)
        last = file_name(INVENTORY)
        for file in sorted(sizes, key=lambda file: file == last):
            files_of.place(dir_lfd, file, f"{folder}/{file}")
    finally:
        os.close(dir_lfd)


def _receive_file(dir_lfd: int, frame: wire.Frame, sizes: dict[str, int], folder: Path) -> None:
    file, first = frame.text("name"), frame.flag("first")
    image = parse_file_name(file)
    where = f"{folder}/{file}"
    if image is None or image.type.stem in _BY_PAGE_SERVER or first is (file in sizes):
        raise PeerError("sent what is no file of a set", why=repr(file[:100]))
    if sizes.get(file, 0) + len(frame.data) > _MAX_FILE:
        raise PeerError("sent too large an image", why=repr(file[:100]))
    if first:
        lfd = files_of.create(dir_lfd, file, where)
    else:
        try:
            lfd = os.open(
                files_of.temporary(file),
                os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=dir_lfd,
            )
        except OSError as error:
            raise files_of.cannot_write(where, error) from error
    try:
        files_of.write_all(lfd, frame.data, where)
    finally:
        os.close(lfd)
    sizes[file] = sizes.get(file, 0) + len(frame.data)
