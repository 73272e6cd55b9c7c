"""The sums that the server of missing pages makes are those of the checksums' images."""

from __future__ import annotations

import random

import pytest
import xxhash

from ckpt._native import ffi, lib


@pytest.mark.parametrize("size", [241, 1024, 1025, 4095, 4096, 4097, 65536, 3 * 4096, 1 << 20])
def test_as_the_library_has_it(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert lib.ckpt_xxh3(ffi.from_buffer(data), size) == xxhash.xxh3_64_intdigest(data)
