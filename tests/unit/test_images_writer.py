"""A set is whole or not there."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images.directory import write_image
from ckpt.images.reader import ImageSet
from ckpt.images.writer import ImageSetWriter
from tests.support.image_set import PAGE, inventory, new, write_set

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def minimal(directory: Path) -> ImageSetWriter:
    writer = ImageSetWriter(directory)
    writer.write("inventory", [inventory()])
    return writer


def test_nothing_is_there_before_commit(tmp_path: Path) -> None:
    with minimal(tmp_path) as writer:
        assert names(tmp_path) == []
        os.write(writer.pages(1), bytes(PAGE))
        writer.sync()
        assert names(tmp_path) == [".inventory.img.tmp", ".pages-1.img.tmp"]
        writer.commit()
        assert names(tmp_path) == ["ckpt-checksums.img", "inventory.img", "pages-1.img"]
    assert names(tmp_path) == ["ckpt-checksums.img", "inventory.img", "pages-1.img"]


def test_files_are_private(tmp_path: Path) -> None:
    write_set(tmp_path)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("flushed", [False, True])
def test_an_error_leaves_nothing(tmp_path: Path, flushed: bool) -> None:
    (tmp_path / "dump.log").write_text("kept")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeError), minimal(tmp_path) as writer:
        writer.pages(1)
        if flushed:
            writer.sync()
        raise RuntimeError
    assert names(tmp_path) == ["dump.log"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_failure_in_commit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def failing(src: str, dst: str, **where: int) -> None:
        if dst == "inventory.img":
            raise OSError(28, "No space left on device")
        rename(src, dst, **where)

    monkeypatch.setattr(os, "rename", failing)
    with (
        pytest.raises(ImageError, match=r"inventory.img: can't be written.*no space.*make room"),
        minimal(tmp_path) as writer,
    ):
        writer.commit()
    assert names(tmp_path) == []


def test_the_inventory_is_placed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[str] = []
    rename = os.rename

    def watching(src: str, dst: str, **where: int) -> None:
        placed.append(dst)
        rename(src, dst, **where)

    monkeypatch.setattr(os, "rename", watching)
    write_set(tmp_path)
    assert placed[-1] == "inventory.img"
    assert set(placed) == set(names(tmp_path))


@pytest.mark.parametrize("old", ["inventory.img", "core-1.img", "pages-1.img", "pstree.img"])
def test_an_old_set_is_in_the_way(tmp_path: Path, old: str) -> None:
    (tmp_path / old).touch()
    with pytest.raises(ImageError, match=f"{tmp_path}: holds .*remove the images"):
        ImageSetWriter(tmp_path)
    assert names(tmp_path) == [old]


def test_what_may_stand_beside_a_set(tmp_path: Path) -> None:
    cpu = dict.fromkeys(["vendor_id", "cpu_family", "model", "stepping", "capability_ver"], 1)
    write_image(tmp_path, "cpuinfo", [new("cpuinfo.cpuinfo_entry", x86_entry=[cpu])])
    (tmp_path / "parent").symlink_to(".")
    (tmp_path / ".core-1.img.tmp").write_text("left by a killed dump")
    (tmp_path / ".mine.tmp").touch()
    with minimal(tmp_path) as writer:
        writer.commit()
    assert ".core-1.img.tmp" not in names(tmp_path)
    assert {".mine.tmp", "parent", "cpuinfo.img"} <= set(names(tmp_path))
    write_image(tmp_path, "cpuinfo", [new("cpuinfo.cpuinfo_entry")])
    with ImageSet(tmp_path) as images:
        assert len(images.read_one("cpuinfo").x86_entry) == 0


@pytest.mark.parametrize("old", [True, False])
def test_a_killed_writer_leaves_no_temporary_file(
    tmp_path: Path, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call that makes or removes a name: is there one that nobody would know?"""
    seen: list[list[str]] = []

    def watched(call: Callable[..., object]) -> Callable[..., object]:
        def look_first(*args: object, **options: object) -> object:
            seen.append(names(tmp_path))
            return call(*args, **options)

        return look_first

    for call in ("write", "unlink", "link", "rename"):
        monkeypatch.setattr(os, call, watched(getattr(os, call)))
    if old:
        (tmp_path / "cpuinfo.img").write_text("older")
    write_image(tmp_path, "cpuinfo", [new("cpuinfo.cpuinfo_entry")])
    assert seen
    assert {name for moment in seen for name in moment} <= {"cpuinfo.img"}
    with minimal(tmp_path) as writer:
        writer.commit()
    with ImageSet(tmp_path) as images:
        assert len(images.read_one("cpuinfo").x86_entry) == 0


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    with ImageSetWriter(tmp_path), pytest.raises(ImageError, match="another process"):
        ImageSetWriter(tmp_path)
    with ImageSetWriter(tmp_path):
        assert names(tmp_path) == []


def test_what_a_set_must_have(tmp_path: Path) -> None:
    with ImageSetWriter(tmp_path) as writer:
        with pytest.raises(ImageError, match=r"without inventory.img"):
            writer.commit()
        writer.write("inventory", [inventory()])
        with pytest.raises(ImageError, match="written twice"):
            writer.write("inventory", [inventory()])


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"can't be opened.*no such file.*--images-dir"):
        ImageSetWriter(tmp_path / "none")


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    images = tmp_path / "images"
    images.mkdir()
    with minimal(images) as writer:
        (images / ".inventory.img.tmp").symlink_to(victim)
        with pytest.raises(ImageError, match="can't be written"):
            writer.flush()
    assert victim.read_text() == "precious"


def test_what_a_sync_covers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    sync_new = files_of.sync_new

    def watching(dir_lfd: int, files: list[str], where: str) -> None:
        synced.append(files)
        sync_new(dir_lfd, files, where)

    monkeypatch.setattr(files_of, "sync_new", watching)
    with minimal(tmp_path) as writer:
        os.write(writer.pages(1), bytes(PAGE))
        os.write(writer.pages(2), bytes(PAGE))
        writer.sync()
        os.write(writer.pages(2), bytes(PAGE))
        writer.commit()
    assert synced == [
        ["inventory.img", "pages-1.img", "pages-2.img"],
        ["ckpt-checksums.img", "pages-2.img"],
    ]
    with ImageSet(tmp_path) as images:
        images.verify_pages().wait()


def test_without_sync_nothing_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _lfd: pytest.fail("waited"))
    write_set(tmp_path)


def test_every_file_is_synced_where_there_is_no_room_for_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    synced: list[int] = []
    fsync = os.fsync

    def counting(lfd: int) -> None:
        synced.append(os.fstat(lfd).st_ino)
        fsync(lfd)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(os, "fsync", counting)
    with minimal(tmp_path) as writer:
        for number in range(1, 40):
            os.write(writer.pages(number), bytes(PAGE))
        writer.sync()
        files = {path.stat().st_ino for path in tmp_path.glob(".pages-*")}
    assert len(files) == 39 and files <= set(synced)
