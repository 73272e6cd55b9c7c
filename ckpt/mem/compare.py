"""Comparing pages in files, in C, for ckpt.images.diff, which only knows where they are."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.images.diff import Pair


def compare(pairs: Sequence[Pair]) -> list[int]:
    """ckpt.images.diff.Comparer."""
    array = ffi.new("struct ckpt_pair[]", [(*pair, 0) for pair in pairs])
    failed = ffi.new("uint64_t *")
    result = lib.ckpt_compare(array, len(pairs), failed)
    if result == -errno.ENODATA:
        pair = pairs[failed[0]]
        raise ImageError(
            "a pages file ends before its pages do",
            why=f"{pair.nr_pages} pages at {pair.at_a} or at {pair.at_b} are not there",
            hint="take the images from their origin again",
        )
    check(result, "the pages")
    return [one.nr_differ for one in array]
