"""Freeing replaced pages: what a chain restores stays the same, and what lost pages is refused."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.cli.__main__ import main
from ckpt.errors import ImageError
from ckpt.images import dedup as dedup_module
from ckpt.images.chain import Chain
from ckpt.images.dedup import dedup, punch_overridden
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT
from ckpt.images.writer import ImageSetWriter
from ckpt.units import PAGE
from tests.support.chain_sets import make, make_many, numbers, pages
from tests.support.dying import killed_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P, L, N = PE_PARENT, PE_LAZY, PE_PRESENT
ROT = b"rot"


def chain_of_three(folder: Path) -> dict[int, int]:
    """Sets a (1300 pages, so two blocks), b and c; returns what c restores."""
    make(folder / "a", [pages(0, 1300, N)], run_id="A")
    make(
        folder / "b",
        [pages(0, 2, P), pages(2, 3, N), pages(5, 1295, P)],
        "../a",
        run_id="B",
        parent_id="A",
        seed=100,
    )
    make(
        folder / "c",
        [pages(0, 1, P), pages(1, 2, N), pages(3, 7, P), pages(10, 5, N | L), pages(20, 5, P)],
        "../b",
        run_id="C",
        parent_id="B",
        seed=200,
    )
    with Chain(folder / "c") as chain:
        return numbers(chain)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the sets a, b and c."""
    files = [path for name in "abc" for path in (folder / name).iterdir() if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def restorable(directory: Path) -> dict[int, int]:
    """What the newest set of this chain restores, its sums verified."""
    with Chain(directory) as chain:
        chain.verify_pages().wait()
        return numbers(chain)


def holes(path: Path, nr_pages: int) -> list[int]:
    """Which pages of a file take no room."""
    found = []
    with path.open("rb") as file:
        for page in range(nr_pages):
            try:
                if os.lseek(file.fileno(), page * PAGE, os.SEEK_DATA) != page * PAGE:
                    found.append(page)
            except OSError as error:
                assert error.errno == errno.ENXIO
                found.append(page)
    return found


def test_replaced_pages_are_freed(tmp_path: Path) -> None:
    wanted = chain_of_three(tmp_path)
    sizes = [(tmp_path / name / "pages-3.img").stat().st_size for name in "abc"]
    assert punch_overridden(tmp_path / "c") == (1 + 9) * PAGE
    assert holes(tmp_path / "a" / "pages-3.img", 1300) == [1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert holes(tmp_path / "b" / "pages-3.img", 3) == [0]
    assert holes(tmp_path / "c" / "pages-3.img", 7) == []
    assert sizes == [(tmp_path / name / "pages-3.img").stat().st_size for name in "abc"]
    assert restorable(tmp_path / "c") == wanted


def test_nothing_else_of_the_sets_changes(tmp_path: Path) -> None:
    """CRIU reads the pagemaps of the parents, and finds them as they were."""
    chain_of_three(tmp_path)
    before = contents(tmp_path)
    dedup(tmp_path / "c")
    after = contents(tmp_path)
    assert after.keys() - before.keys() == {"a/ckpt-punched.img", "b/ckpt-punched.img"}
    changed = {file for file in before if after[file] != before[file]}
    assert changed == {"a/pages-3.img", "b/pages-3.img"}


@pytest.mark.parametrize("verify", [True, False])
def test_a_set_that_lost_pages_is_refused(tmp_path: Path, verify: bool) -> None:
    chain_of_three(tmp_path)
    dedup(tmp_path / "c")
    for name, nr_lost in (("a", 9), ("b", 1)):
        with (
            Chain(tmp_path / name, verify=verify) as chain,
            pytest.raises(ImageError) as caught,
        ):
            chain.resolve("pagemap-7")
        assert f"has lost {nr_lost} pages that are needed" in str(caught.value)
        assert "dump C" in str(caught.value)


def test_without_the_record_the_sums_do_not_fit(tmp_path: Path) -> None:
    chain_of_three(tmp_path)
    dedup(tmp_path / "c")
    (tmp_path / "a" / "ckpt-punched.img").unlink()
    with Chain(tmp_path / "a") as chain:
        assert set(numbers(chain)) == set(range(1300))
        with pytest.raises(ImageError, match="rotten at byte 0"):
            chain.verify_pages().wait()


def rot(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * PAGE)
        file.write(ROT)


def test_rot_in_what_is_left_is_found(tmp_path: Path) -> None:
    wanted = chain_of_three(tmp_path)
    dedup(tmp_path / "c")
    rot(tmp_path / "a" / "pages-3.img", 2)  # a freed one: nobody's
    assert restorable(tmp_path / "c") == wanted
    rot(tmp_path / "a" / "pages-3.img", 20)
    with pytest.raises(ImageError, match=r"pages-3.img: rotten at byte 0"):
        restorable(tmp_path / "c")


def test_only_blocks_that_are_used_are_verified(tmp_path: Path) -> None:
    wanted = chain_of_three(tmp_path)
    rot(tmp_path / "a" / "pages-3.img", 1200)  # in a block of which c needs nothing
    assert restorable(tmp_path / "c") == wanted
    with pytest.raises(ImageError, match=r"pages-3.img: rotten at byte 4718592"):
        restorable(tmp_path / "b")


def test_rot_gets_no_right_sum(tmp_path: Path) -> None:
    chain_of_three(tmp_path)
    rot(tmp_path / "a" / "pages-3.img", 20)
    before = contents(tmp_path)
    with pytest.raises(ImageError, match=r"pages-3.img: rotten at byte 0"):
        dedup(tmp_path / "c")
    assert contents(tmp_path) == before


def test_again_and_again(tmp_path: Path) -> None:
    wanted = chain_of_three(tmp_path)
    first = dedup(tmp_path / "c")
    record = (tmp_path / "a" / "ckpt-punched.img").stat().st_mtime_ns
    second = dedup(tmp_path / "c")
    assert [layer.freed_in_all for layer in first] == [layer.freed_in_all for layer in second]
    assert [layer.freed for layer in second] == [0, 0, 0]
    assert (tmp_path / "a" / "ckpt-punched.img").stat().st_mtime_ns == record
    make(
        tmp_path / "d",
        [pages(0, 10, N), pages(10, 15, N), pages(1100, 1, N)],
        "../c",
        run_id="D",
        parent_id="C",
    )
    third = dedup(tmp_path / "d")
    assert [layer.freed for layer in third] == [0, 7 * PAGE, 2 * PAGE, 17 * PAGE]
    assert restorable(tmp_path / "d").keys() == {*range(25), 1100}
    assert wanted.keys() == set(range(15)) | set(range(20, 25))
    rot(tmp_path / "a" / "pages-3.img", 500)
    make(tmp_path / "e", [pages(500, 1, P)], "../b", parent_id="B")
    with pytest.raises(ImageError, match=r"pages-3.img: rotten at byte 1835008"):
        restorable(tmp_path / "e")


def test_sets_without_sums(tmp_path: Path) -> None:
    make_many(tmp_path / "a", {"pagemap-7": [pages(0, 9, N)]}, checksums=False)
    make_many(tmp_path / "b", {"pagemap-7": [pages(0, 2, N), pages(2, 7, P)]}, "../a")
    assert punch_overridden(tmp_path / "b") == 2 * PAGE
    assert restorable(tmp_path / "b") == dict(enumerate([0, 1, 2, 3, 4, 5, 6, 7, 8]))
    with Chain(tmp_path / "a") as chain, pytest.raises(ImageError, match="has lost 2 pages"):
        chain.resolve("pagemap-7")


def test_each_image_has_its_own_pages(tmp_path: Path) -> None:
    everything = {
        "pagemap-7": [pages(0, 4, N)],
        "pagemap-8": [pages(0, 4, N)],
        "pagemap-shmem-7": [pages(0, 4, N)],
    }
    make_many(tmp_path / "a", everything)
    make_many(
        tmp_path / "b",
        {"pagemap-8": [pages(1, 1, N)], "pagemap-shmem-7": [pages(2, 1, N), pages(3, 1, P)]},
        "../a",
    )
    assert punch_overridden(tmp_path / "b") == 2 * PAGE
    found = [holes(tmp_path / "a" / f"pages-{number}.img", 4) for number in (3, 4, 5)]
    assert found == [[], [1], [2]]


def test_who_is_in_the_way(tmp_path: Path) -> None:
    chain_of_three(tmp_path)
    with Chain(tmp_path / "b"), pytest.raises(ImageError, match="another process works"):
        dedup(tmp_path / "c")
    (tmp_path / "d").mkdir()
    with ImageSetWriter(tmp_path / "d"), pytest.raises(ImageError, match="another process writes"):
        Chain(tmp_path / "d")
    os.link(tmp_path / "a" / "pages-3.img", tmp_path / "copy")
    with pytest.raises(ImageError, match=r"pages-3.img: has 2 names"):
        dedup(tmp_path / "c")
    assert not (tmp_path / "b" / "ckpt-punched.img").exists()


def test_a_file_system_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain_of_three(tmp_path)

    def refusing(*_: int) -> int:
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    monkeypatch.setattr(dedup_module, "_fallocate", lambda: refusing)
    with pytest.raises(ImageError, match=r"can't be freed.*not supported.*can't make holes"):
        dedup(tmp_path / "c")
    assert not list(tmp_path.glob("*/*punched*"))


def test_a_damaged_record(tmp_path: Path) -> None:
    chain_of_three(tmp_path)
    dedup(tmp_path / "c")
    path = tmp_path / "a" / "ckpt-punched.img"
    raw = path.read_bytes()
    for at in range(len(raw)):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x10]) + raw[at + 1 :])
        with pytest.raises(ImageError, match=r"ckpt-punched\.img"):
            Chain(tmp_path / "c", verify=False)


def test_a_set_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a", [pages(0, 2, N)])
    assert main(["dedup", "-D", str(tmp_path / "a")]) == 0
    assert "nothing to free" in capsys.readouterr().out
    assert main(["dedup", "-D", str(tmp_path)]) == 5


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain_of_three(tmp_path)
    assert main(["dedup", "-D", str(tmp_path / "c")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}/a: 36.0 KiB freed, 36.0 KiB in all\n40.0 KiB freed\n" in out
    assert main(["dedup", "-D", str(tmp_path / "c"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["freed"] == 0
    assert [(one["run_id"], one["freed_in_all"]) for one in found["layers"]] == [
        ("C", 0),
        ("B", PAGE),
        ("A", 9 * PAGE),
    ]


def freeing_too(counted: Callable[[Any], Any]) -> None:
    real = counted(dedup_module._fallocate())
    dedup_module._fallocate = lambda: real  # type: ignore[assignment]


def _freed(newest: Path) -> None:
    dedup(newest)


def test_no_death_leaves_silent_zeros(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    wanted = chain_of_three(tmp_path / "0")
    older = {name: restorable(tmp_path / "0" / name) for name in "ab"}
    call = refused = whole = 0
    while True:
        call += 1
        folder = tmp_path / str(call)
        shutil.copytree(tmp_path / "0", folder, symlinks=True)
        if not killed_at(call, partial(_freed, folder / "c"), more=freeing_too):
            break
        assert restorable(folder / "c") == wanted
        for name, content in older.items():
            try:
                assert restorable(folder / name) == content
                whole += 1
            except ImageError as error:
                assert "has lost" in str(error)
                refused += 1
        dedup(folder / "c")
        assert restorable(folder / "c") == wanted
        assert len(holes(folder / "a" / "pages-3.img", 1300)) == 9
        shutil.rmtree(folder)
    assert call > 30
    assert refused > 10
    assert whole > 10
