"""A store: names, choosing, and no death, at any call, that loses a generation."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.cli import values
from ckpt.errors import ImageError, TargetError
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.report import Report
from ckpt.store import tidy as tidy_module
from ckpt.store.generations import (
    Wanted,
    generation_at,
    generations,
    name_of,
    owned,
    pick,
    publish,
    recover,
    steady,
)
from ckpt.store.loop import Shot, SnapshotOptions, snapshot
from ckpt.store.tidy import tidy
from tests.support.chain_sets import make, numbers, pages
from tests.support.dying import killed_at
from tests.support.image_set import write_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P, N = PE_PARENT, PE_PRESENT
T0 = 1_700_000_000_123


def made(store: Path, count: int) -> list[dict[int, int]]:
    """A store of generations, each of which changes two pages; what each holds."""
    store.mkdir()
    holds = []
    for number in range(1, count + 1):
        runs = [pages(0, 20, N)] if number == 1 else _two_of_20(number)
        prev = generations(store)
        make(
            store / ".next",
            runs,
            f"../{prev[-1].name}" if prev else "",
            run_id=f"run {number}",
            parent_id=f"run {number - 1}" if prev else None,
            seed=number * 10,
        )
        one = publish(store, number, T0 + 1000 * number)
        holds.append(held(one.path))
    return holds


def _two_of_20(number: int) -> list[Any]:
    at = number * 3 % 17
    runs = [pages(0, at, P), pages(at, 2, N), pages(at + 2, 18 - at, P)]
    return [run for run in runs if run.nr_pages]


def held(path: Path) -> dict[int, int]:
    with Chain(path) as chain:
        return numbers(chain)


def by_number(store: Path) -> dict[int, dict[int, int]]:
    return {one.number: held(one.path) for one in generations(store)}


def test_names(tmp_path: Path) -> None:
    name = name_of(17, 1_763_736_873_123)
    assert name == "000017-20251121T145433.123Z"
    (tmp_path / name).mkdir()
    assert generation_at(tmp_path / name) is None
    (tmp_path / name / "inventory.img").touch()
    found = generation_at(tmp_path / name)
    assert found is not None
    assert (found.number, found.instant_ms, found.parent) == (17, 1_763_736_873_123, "")
    for bad in ("17-20251121T145433.123Z", "000017-20251321T145433.123Z", "x"):
        (tmp_path / name).rename(tmp_path / bad)
        assert generation_at(tmp_path / bad) is None
        (tmp_path / bad).rename(tmp_path / name)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / name).rename(elsewhere)
    (tmp_path / name).symlink_to(elsewhere)
    (tmp_path / ".next").symlink_to(elsewhere)
    recover(tmp_path)
    assert not generations(tmp_path)
    assert (elsewhere / "inventory.img").exists()
    assert not (tmp_path / ".next").is_symlink()
    with pytest.raises(ImageError, match="read as a store"):
        generations(tmp_path / "none")


def test_choosing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    made(store, 3)
    assert pick(store, Wanted()).number == 3
    assert pick(store, Wanted(number=2)).number == 2
    assert pick(store, Wanted(instant_ms=T0 + 2000)).number == 2
    assert pick(store, Wanted(instant_ms=T0 + 2999)).number == 2
    for wrong in (Wanted(number=4), Wanted(instant_ms=T0)):
        with pytest.raises(ImageError, match="it has 3, from 1"):
            pick(store, wrong)


def test_words_for_generations() -> None:
    assert values.generation("17") == Wanted(number=17)
    assert values.generation("latest") == Wanted()
    assert values.generation("2023-11-14T22:13:20.123Z") == Wanted(instant_ms=T0)
    ago = values.generation("-2m").instant_ms
    assert ago is not None
    assert 119_000 < time.time() * 1000 - ago < 300_000
    midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
    assert values.generation("00:00").instant_ms in (midnight * 1000, (midnight - 86400) * 1000)
    for bad in ("", "yesterday", "-", "-5x", "25:00", "1.5"):
        with pytest.raises(ValueError, match="a "):
            values.generation(bad)
    assert [values.duration(text) for text in ("10s", "500ms", "2m", "1h", "1.5")] == [
        10,
        0.5,
        120,
        3600,
        1.5,
    ]


def test_one_owner(tmp_path: Path) -> None:
    with owned(tmp_path):
        with pytest.raises(ImageError, match="another ckpt snapshot"), owned(tmp_path):
            pass
        with steady(tmp_path), steady(tmp_path):
            pass


def test_what_had_become_whole_is_kept(tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = made(store, 2)
    last = generations(store)[-1]
    make(store / ".next", [pages(0, 20, P)], f"../{last.name}", run_id="3", parent_id="run 2")
    (store / ".merge").mkdir()
    recover(store)
    assert by_number(store) == {1: before[0], 2: before[1], 3: before[1]}
    (store / ".next").mkdir()
    (store / ".next" / "pages-1.img").touch()
    recover(store)
    assert len(list(store.iterdir())) == 3


def test_thinned(tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = made(store, 9)
    tidy(store, 3, Report())
    after = by_number(store)
    assert list(after)[-3:] == [7, 8, 9]
    assert len(after) < 9
    assert all(before[number - 1] == content for number, content in after.items())


def test_a_generation_that_is_read_stays(tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = made(store, 9)
    with Chain(generations(store)[-4].path), pytest.raises(ImageError, match="works with images"):
        tidy(store, 3, Report())
    assert by_number(store) == dict(enumerate(before, 1))
    assert not (store / ".merge").exists()
    tidy(store, 3, Report())


def test_links_that_lead_elsewhere(tmp_path: Path) -> None:
    """A folder of the same name in another store."""
    store = tmp_path / "store"
    made(store, 9)
    shutil.copytree(store, tmp_path / "other", symlinks=True)
    for one in generations(store)[1:]:
        link = one.path / "parent"
        elsewhere = f"../../other/{one.parent}"
        link.unlink()
        link.symlink_to(elsewhere)
    with pytest.raises(ImageError, match="outside of its store"):
        tidy(store, 3, Report())
    assert len(generations(store)) == 9


CALLS = ("open", "write", "rename", "fsync", "unlink", "rmdir", "mkdir", "copy_file_range")


def exchanging_too(counted: Callable[[Any], Any]) -> None:
    tidy_module._exchange = counted(tidy_module._exchange)


def points(sparse: int) -> Iterator[int]:
    """Every call in the stress, else some of them."""
    call = 1
    while True:
        yield call
        call += 1 if os.environ.get("CKPT_STRESS") else sparse


def test_no_death_of_thinning_loses_a_generation(tmp_path: Path) -> None:
    before = made(tmp_path / "0", 7)
    for call in points(13):
        store = tmp_path / str(call)
        shutil.copytree(tmp_path / "0", store, symlinks=True)
        work = partial(tidy, store, 2, Report())
        ended = not killed_at(call, work, CALLS, more=exchanging_too)
        after = by_number(store)
        assert list(after)[-2:] == [6, 7]
        assert all(before[number - 1] == content for number, content in after.items())
        recover(store)
        assert by_number(store) == after
        tidy(store, 2, Report())
        final = by_number(store)
        assert all(before[number - 1] == content for number, content in final.items())
        assert all(name[0] == "0" for name in os.listdir(store))
        if ended:
            break
        shutil.rmtree(store)
    assert list(final)[-2:] == [6, 7]


def take(folder: Path, prev: str) -> Shot:
    """A dump that changes two pages, as `made` does."""
    number = int(prev[3:9]) + 1 if prev else 1
    folder.rmdir()
    make(
        folder,
        _two_of_20(number) if prev else [pages(0, 20, N)],
        prev,
        run_id=f"run {number}",
        parent_id=f"run {number - 1}" if prev else None,
        seed=number * 10,
    )
    return Shot(T0 + number, 0, 0, 0)


def test_no_death_of_a_series_loses_a_generation(tmp_path: Path) -> None:
    wanted = dict(enumerate(made(tmp_path / "0", 5), 1))
    for call in points(37):
        store = tmp_path / str(call)
        store.mkdir()
        options = SnapshotOptions(pid=os.getpid(), directory=store, every_s=0.0, keep=100, count=3)

        def work(options: SnapshotOptions = options) -> None:
            snapshot(options, take, lambda *_: None, Report())

        ended = not killed_at(call, work, CALLS, more=exchanging_too)
        after = by_number(store)
        assert all(wanted[number] == content for number, content in after.items())
        assert list(after) == list(range(1, len(after) + 1))
        snapshot(options, take, lambda *_: None, Report())
        final = by_number(store)
        assert len(final) in (len(after) + 3, len(after) + 4)
        assert all(wanted[n] == content for n, content in final.items() if n in wanted)
        if ended:
            break
        shutil.rmtree(store)


def test_interrupted(tmp_path: Path) -> None:
    """What had become whole by then is a generation, what had not is gone."""
    options = SnapshotOptions(pid=os.getpid(), directory=tmp_path, every_s=0.0, keep=9)

    def interrupted(folder: Path, prev: str) -> Shot:
        if not prev:
            return take(folder, prev)
        (folder / "pages-1.img").touch()
        if len(generations(tmp_path)) == 2:
            (folder / "pages-1.img").unlink()
            take(folder, prev)
        elif len(generations(tmp_path)) == 1:
            (folder / "pages-1.img").unlink()
            return take(folder, prev)
        raise KeyboardInterrupt

    for number in (3, 3):
        with pytest.raises(KeyboardInterrupt):
            snapshot(options, interrupted, lambda *_: None, Report())
        assert len(generations(tmp_path)) == number
        assert not (tmp_path / ".next").exists()


def test_one_tree(tmp_path: Path) -> None:
    (tmp_path / name_of(1, T0)).mkdir()
    write_set(tmp_path / name_of(1, T0))
    options = SnapshotOptions(pid=os.getpid(), directory=tmp_path, every_s=0.0, keep=9)
    with pytest.raises(ImageError, match="another tree, pid 10"):
        snapshot(options, take, lambda *_: None, Report())


def test_a_series_whose_dumps_fail(tmp_path: Path) -> None:
    """The first one ends it; a later one is left out, and told."""
    warnings = []

    class Listening(Report):
        def warn(self, text: str) -> None:
            warnings.append(text)

    calls = 0

    def failing(folder: Path, prev: str) -> Shot:
        nonlocal calls
        calls += 1
        if calls in (1, 3):
            raise ImageError("no room")
        return take(folder, prev)

    options = SnapshotOptions(pid=os.getpid(), directory=tmp_path, every_s=0.0, keep=9, count=3)
    with pytest.raises(ImageError, match="no room"):
        snapshot(options, failing, lambda *_: None, Listening())
    assert not generations(tmp_path)
    snapshot(options, failing, lambda *_: None, Listening())
    assert [one.number for one in generations(tmp_path)] == [1, 2, 3]
    assert warnings == ["this generation is left out: no room"]
    with pytest.raises(TargetError):
        snapshot(
            SnapshotOptions(pid=1 << 22, directory=tmp_path, every_s=1, keep=9),
            take,
            lambda *_: None,
            Report(),
        )
