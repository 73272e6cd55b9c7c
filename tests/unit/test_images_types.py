"""Names of images and of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt.errors import ImageError
from ckpt.images.types import TYPES, ImageType, file_name, image_name, parse_file_name, parse_name

NAMES = [
    ("inventory", "inventory", None, "inventory.img"),
    ("core-123", "core", 123, "core-123.img"),
    ("pagemap-7", "pagemap", 7, "pagemap-7.img"),
    ("pagemap-shmem-77", "pagemap-shmem", 77, "pagemap-shmem-77.img"),
    ("pipes-data", "pipes-data", None, "pipes-data.img"),
    ("ghost-file-1f", "ghost-file", 31, "ghost-file-1f.img"),
    ("ipcns-shm-9", "ipcns-shm", 9, "ipcns-shm-9.img"),
    ("stats-dump", "stats-dump", None, "stats-dump"),
]


@pytest.mark.parametrize(("name", "stem", "number", "file"), NAMES)
def test_names(name: str, stem: str, number: int | None, file: str) -> None:
    parsed = parse_name(name)
    assert (parsed.type.stem, parsed.number, parsed.file) == (stem, number, file)
    assert parse_file_name(file) == parsed
    assert image_name(stem, number) == name
    assert file_name(stem, number) == file


@pytest.mark.parametrize(
    "name",
    [
        "",
        "core",
        "core-",
        "core-x",
        "core-01",
        "core--1",
        "core-1 ",
        "files-1",
        "../core-1",
        "core-١",
    ],
)
def test_no_such_name(name: str) -> None:
    with pytest.raises(ImageError):
        parse_name(name)
    assert parse_file_name(name + ".img") is None


def test_files_that_are_no_images() -> None:
    for file in (
        "dump.log",
        "stats-dump.img",
        "core-1",
        ".core-1.img.tmp",
        "parent",
        "core-1.img~",
    ):
        assert parse_file_name(file) is None


def test_a_number_where_there_is_none() -> None:
    with pytest.raises(ImageError):
        image_name("files", 1)
    with pytest.raises(ImageError):
        image_name("core")


def test_every_type_has_its_messages() -> None:
    for image_type in TYPES.values():
        if image_type.entry:
            assert image_type.message(0).DESCRIPTOR.full_name.startswith("ckpt.images.")
            assert image_type.message(1).DESCRIPTOR.name == image_type.entry.split(".")[1]


def test_the_manual_lists_every_image() -> None:
    page = Path(__file__).parent.parent.parent / "man" / "ckpt-images.5"
    text = page.read_text()
    for image_type in TYPES.values():
        number = next((n for n in ("PID", "TID", "ID", "N") if _listed(text, image_type, n)), None)
        assert number is not None or _listed(text, image_type, ""), image_type.stem
        if image_type.magic:
            assert f"{image_type.magic:#010x}" in text, image_type.stem


def _listed(text: str, image_type: ImageType, number: str) -> bool:
    if bool(number) != bool(image_type.numbered):
        return False
    file = f"{image_type.stem}-{number}" if number else image_type.stem
    return f"Pa {file}{image_type.suffix}" in text
