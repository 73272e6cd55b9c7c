"""Reading a set; what is wrong with it is told with file and reason."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError
from ckpt.images import framing
from ckpt.images.reader import ImageSet
from tests.support.image_set import HEAP, PAGE, PIPE_DATA, inventory, write_set

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    write_set(directory)
    return directory


def test_a_set_is_read(images: Path) -> None:
    with ImageSet(images) as one:
        assert one.has_sums
        assert one.inventory.root_cg_set == 1
        assert [entry.pid for entry in one.read("pstree")] == [10, 20, 30]
        assert one.names("core") == [10, 11, 20, 30]
        assert one.names("ghost-file") == [31]
        assert one.names("utsns") == []
        assert one.exists("seccomp")
        assert not one.exists("core-99")
        assert one.read_payloads("pipes-data")[0][1] == PIPE_DATA
        assert one.size("pages-10") == 3 * PAGE
        assert one.pagemap("pagemap-10").runs[0].addr == HEAP
        assert os.pread(one.pages_fd(10), 3, 2 * PAGE) == b"\2\2\2"
        one.verify_pages().wait()


def test_descriptors_close(images: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with ImageSet(images) as one:
        one.pages_fd(10)
        one.read("files")
        one.verify_pages().cancel()
    one.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_rotten_byte_of_a_small_image_is_found(images: Path) -> None:
    path = images / "fs-10.img"
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with ImageSet(images) as one, pytest.raises(ImageError, match=r"fs-10.img: rotten"):
            one.read("fs-10")


def test_rotten_pages_are_found_with_their_place(images: Path) -> None:
    with (images / "pages-20.img").open("r+b") as file:
        file.seek(PAGE + 7)
        file.write(b"x")
    with ImageSet(images) as one:
        verification = one.verify_pages()
        with pytest.raises(ImageError, match=r"pages-20.img: rotten at byte 0"):
            verification.wait()


def test_pages_cut_short(images: Path) -> None:
    os.truncate(images / "pages-20.img", 2 * PAGE)
    with ImageSet(images) as one:
        with pytest.raises(ImageError, match="rotten at byte 8192"):
            one.verify_pages().wait()
        with pytest.raises(ImageError, match="tells of 3 pages"):
            one.pagemap("pagemap-20")


def test_without_sums_a_set_is_read_all_the_same(images: Path) -> None:
    (images / "ckpt-checksums.img").unlink()
    with (images / "pages-20.img").open("r+b") as file:
        file.write(b"x")
    with ImageSet(images) as one:
        assert not one.has_sums
        one.verify_pages().wait()
        assert len(one.read("files")) == 5


def test_sums_may_be_left_alone(images: Path) -> None:
    (images / "ckpt-checksums.img").write_bytes(b"rotten")
    with ImageSet(images, verify=False) as one:
        assert len(one.read("files")) == 5
    with pytest.raises(ImageError, match=r"ckpt-checksums.img"):
        ImageSet(images)


def test_an_image_that_the_sums_name_is_gone(images: Path) -> None:
    (images / "seccomp.img").unlink()
    with pytest.raises(ImageError, match=r"seccomp.img: is gone"):
        ImageSet(images)


def test_what_is_ours_may_go(images: Path) -> None:
    (images / "ckpt-thread-10.img").unlink()
    with ImageSet(images) as one:
        assert not one.exists("ckpt-thread-10")


def test_statistics_may_go(images: Path) -> None:
    (images / "stats-dump").unlink()
    with ImageSet(images) as one:
        assert not one.exists("stats-dump")


def test_no_set(images: Path, tmp_path: Path) -> None:
    (images / "inventory.img").unlink()
    with pytest.raises(ImageError, match=r"incomplete image set.*no inventory.img"):
        ImageSet(images)
    with pytest.raises(ImageError, match=r"holds no image set"):
        ImageSet(tmp_path)
    with pytest.raises(ImageError, match="can't be opened"):
        ImageSet(tmp_path / "none")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"img_version": 3}, "version 3, not 2"),
        ({"img_version": 1}, "version 1, not 2"),
        ({"fdinfo_per_id": False}, "older than"),
        ({"compress": 1}, "compressed"),
    ],
)
def test_foreign_versions(tmp_path: Path, fields: dict[str, int], why: str) -> None:
    data = framing.encode("inventory", [inventory(**fields)])
    (tmp_path / "inventory.img").write_bytes(data)
    with pytest.raises(ImageError, match=why):
        ImageSet(tmp_path)


def test_only_regular_files_are_opened(images: Path) -> None:
    (images / "ckpt-checksums.img").unlink()
    for name, make in (
        ("files.img", lambda path: path.symlink_to("pstree.img")),
        ("pstree.img", os.mkfifo),
        ("seccomp.img", lambda path: path.mkdir()),
    ):
        (images / name).unlink()
        make(images / name)
    with ImageSet(images) as one:
        with pytest.raises(ImageError, match="symbolic link"):
            one.read("files")
        for name in ("pstree", "seccomp"):
            with pytest.raises(ImageError, match="not a regular file"):
                one.read(name)


def test_an_image_that_is_missing_or_another(images: Path) -> None:
    (images / "ckpt-checksums.img").unlink()
    shutil.copy(images / "fs-10.img", images / "mm-10.img")
    with ImageSet(images) as one:
        with pytest.raises(ImageError, match=r"core-99.img: can't be opened.*incomplete"):
            one.read("core-99")
        with pytest.raises(ImageError, match=r"mm-10.img: is not such an image"):
            one.read("mm-10")
        with pytest.raises(ImageError, match="has no messages"):
            one.read("pages-10")
        with pytest.raises(ImageError, match="has 3 messages, not one"):
            one.read_one("pstree")


def test_a_huge_file_is_not_read(images: Path) -> None:
    (images / "ckpt-checksums.img").unlink()
    os.truncate(images / "files.img", 1 << 40)
    with ImageSet(images) as one, pytest.raises(ImageError, match="more than"):
        one.read("files")
