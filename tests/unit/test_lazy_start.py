"""The holder of missing pages takes no number that the tree of its restore is to get."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ckpt.lazy.start import numbers_of, start_holder
from ckpt.report import Report
from tests.support.image_set import write_set

if TYPE_CHECKING:
    from pathlib import Path


class Most:
    """All numbers but each fourth one."""

    def __contains__(self, number: object) -> bool:
        assert isinstance(number, int)
        return number % 4 != 0


@pytest.mark.parametrize("_", range(4))
def test_numbers_that_are_to_be_avoided(tmp_path: Path, _: int) -> None:
    with start_holder(tmp_path, Report(), need_name=True, avoid=Most()) as holder:
        pid = holder.status()["pid"]
        assert isinstance(pid, int)
        assert [n % 4 for n in (pid, os.getsid(pid), os.getpgid(pid))] == [0, 0, 0]


def test_numbers_of_no_set(tmp_path: Path) -> None:
    assert not numbers_of(tmp_path)


def test_numbers_of_a_set(tmp_path: Path) -> None:
    """Threads included."""
    write_set(tmp_path)
    assert numbers_of(tmp_path) >= {10, 11, 20, 30}
