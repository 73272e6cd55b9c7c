"""The record of what a lazy restore was asked for: a hint, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckpt.images import framing
from ckpt.images.reader import ImageSet
from ckpt.images.types import WORKING_SET, file_name, message_class
from ckpt.images.workingset import merged, read_working_set, write_working_set
from ckpt.units import PAGE, TASK_SIZE
from tests.support.image_set import write_set


def read(directory: Path) -> list[tuple[int, int, int]]:
    with ImageSet(directory) as images:
        return read_working_set(images)


def test_what_was_written_is_read_in_its_order(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert read(tmp_path) == []
    fetched = [(7, 9 * PAGE, 11 * PAGE), (7, PAGE, 2 * PAGE), (8, PAGE, 2 * PAGE)]
    with ImageSet(tmp_path) as images:
        write_working_set(images.dir_lfd, fetched, "here")
    assert read(tmp_path) == fetched


@pytest.mark.parametrize(
    "fields",
    [
        {"vaddr": (1 << 64) - PAGE, "nr_pages": 1},
        {"vaddr": TASK_SIZE, "nr_pages": (1 << 32) - 1},
        {"vaddr": 1, "nr_pages": 1},
        {"vaddr": PAGE, "nr_pages": 0},
    ],
)
def test_what_can_not_be_is_passed_over(tmp_path: Path, fields: dict[str, int]) -> None:
    write_set(tmp_path)
    entry: Any = message_class("ckpt_working_set.ckpt_working_set_entry")
    lists = {key: [value, {"vaddr": PAGE, "nr_pages": 1}[key]] for key, value in fields.items()}
    data = framing.encode(WORKING_SET, [entry(pid=[7, 7], **lists)])
    (tmp_path / file_name(WORKING_SET)).write_bytes(data)
    assert read(tmp_path) == [(7, PAGE, 2 * PAGE)]


def test_lists_of_other_lengths(tmp_path: Path) -> None:
    write_set(tmp_path)
    entry: Any = message_class("ckpt_working_set.ckpt_working_set_entry")
    odd = entry(pid=[7, 8], vaddr=[PAGE, 2 * PAGE, 3 * PAGE], nr_pages=[1])
    (tmp_path / file_name(WORKING_SET)).write_bytes(framing.encode(WORKING_SET, [odd, entry()]))
    assert read(tmp_path) == [(7, PAGE, 2 * PAGE)]


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / file_name(WORKING_SET)).write_bytes(b"damaged")
    assert read(tmp_path) == []


def test_each_page_is_there_once() -> None:
    before = [(1, 0, 4 * PAGE)]
    new = [(1, 2 * PAGE, 6 * PAGE), (1, PAGE, 2 * PAGE), (2, 0, PAGE)]
    assert merged(before, new) == [(1, 0, 4 * PAGE), (1, 4 * PAGE, 6 * PAGE), (2, 0, PAGE)]
