"""Debian's crit, which knows CRIU's format and not our code, reads what ckpt writes."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.images.reader import ImageSet
from ckpt.images.types import TYPES, Framing, parse_file_name
from tests.requirements import require
from tests.support.image_set import CODE, HEAP, PAGE, PIPE_DATA, write_set

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    require(shutil.which("crit"), "crit is not installed")
    write_set(tmp_path, zombie=False)
    return tmp_path


def crit(*args: object) -> str:
    done = subprocess.run(
        ["crit", *map(str, args)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def decode(path: Path) -> Any:
    return json.loads(crit("decode", "-i", path))


def test_every_image_decodes(images: Path) -> None:
    seen = set()
    for path in sorted(images.iterdir()):
        image = parse_file_name(path.name)
        assert image is not None, path.name
        if image.type.framing is Framing.RAW or image.type.is_ours:
            continue
        with ImageSet(images) as ours:
            assert len(decode(path)["entries"]) == len(ours.read(path.name.removesuffix(".img")))
        seen.add(image.type.stem)
    assert len(seen) >= 20, seen


def test_fields_keep_their_values(images: Path) -> None:
    core = decode(images / "core-20.img")["entries"][0]
    assert core["tc"]["comm"] == "work er"
    assert core["tc"]["task_state"] == 3
    assert core["thread_core"]["sched_nice"] == -5
    assert core["thread_info"]["fpregs"]["xsave"]["hi16_zmm"] == list(range(128))
    mm = decode(images / "mm-10.img")["entries"][0]
    assert [vma["start"] for vma in mm["vmas"]][:2] == [CODE, HEAP]
    assert mm["vmas"][0]["fd"] == -1


def test_both_page_counts_are_read(images: Path) -> None:
    head, first, _ = decode(images / "pagemap-10.img")["entries"]
    assert head == {"pages_id": 10}
    # crit of 3.17 knows the 32 bit count alone, by the name that the 64 bit one has now.
    assert first == {"vaddr": HEAP, "nr_pages": 2, "flags": 4}


def test_raw_payload_is_found(images: Path) -> None:
    import base64

    (entry,) = decode(images / "pipes-data.img")["entries"]
    assert base64.b64decode(entry["extra"]) == PIPE_DATA


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("ps", ["work er", "shell"]),
        ("fds", ["pipe[5]", "TTY.6", "cwd: /"]),
        ("mems", ["/bin/shell", "shmem[", "[stack]"]),
        ("rss", [f"{HEAP:x} / 2"]),
    ],
)
def test_crit_explores_the_set(images: Path, what: str, wanted: list[str]) -> None:
    out = crit("x", images, what)
    for text in wanted:
        assert text in out, out


def test_what_crit_encodes_is_read(images: Path) -> None:
    before = (images / "files.img").read_bytes()
    (images / "files.json").write_text(crit("decode", "-i", images / "files.img"))
    crit("encode", "-i", images / "files.json", "-o", images / "files.img")
    assert (images / "files.img").read_bytes() == before
    with ImageSet(images) as ours:
        assert len(ours.read("files")) == 5


def test_pages_are_bare(images: Path) -> None:
    assert (images / "pages-10.img").stat().st_size == 3 * PAGE
    assert TYPES["pages"].framing is Framing.RAW
