"""Images of the synthetic set, byte for byte. A change here is a change of the format.

Renew with: python -m tests.golden.test_images_golden (then read the difference).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from ckpt.images.reader import ImageSet
from ckpt.images.types import parse_file_name
from tests.support.image_set import write_set

FOLDER = Path(__file__).parent / "images"


def made() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        write_set(Path(directory))
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def as_text(data: bytes) -> str:
    lines = [data[at : at + 32].hex(" ", 4) for at in range(0, len(data), 32)]
    return "\n".join(lines) + "\n"


def golden(file: str) -> Path:
    return FOLDER / f"{file}.hex"


def is_small(file: str) -> bool:
    image = parse_file_name(file)
    return image is not None and image.type.stem != "pages"


def test_the_bytes_are_the_same() -> None:
    found = {file: as_text(data) for file, data in made().items() if is_small(file)}
    wanted = {path.stem: path.read_text() for path in FOLDER.glob("*.hex")}
    assert found.keys() == wanted.keys()
    for file, text in found.items():
        assert text == wanted[file], file


def test_the_old_bytes_are_read(tmp_path: Path) -> None:
    for path in FOLDER.glob("*.hex"):
        (tmp_path / path.stem).write_bytes(bytes.fromhex(path.read_text()))
    with ImageSet(tmp_path, verify=False) as images:
        assert [task.pid for task in images.read("pstree")] == [10, 20, 30]
        for path in FOLDER.glob("*.hex"):
            name = path.stem.removesuffix(".img")
            assert isinstance(images.read(name), list), name


@pytest.mark.parametrize(
    ("file", "data"),
    [
        # Spelled out by hand from the rules of the format, not made by our code.
        ("inventory.img", "16313158 00000000 080210011a"),
        ("pstree.img", "19435654 30302750 0c000000 080a1000180a200a280a280b"),
        ("pagemap-10.img", "19435654 25400856 02000000 080a"),
    ],
)
def test_beginnings_are_as_specified(file: str, data: str) -> None:
    wanted = bytes.fromhex(data)
    got = made()[file][: len(wanted)]
    if file == "inventory.img":
        got, wanted = got[:4] + got[8:], wanted[:4] + wanted[8:]
    assert got == wanted


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in made().items():
        if is_small(name):
            golden(name).write_text(as_text(content))
