"""Data that compresses like text, the same for the same seed, made quickly."""

from __future__ import annotations

import random
from pathlib import Path

BLOCK_WORDS = 150_000


def write_text(path: Path, size: int, seed: int = 1, separator: bytes = b" ") -> None:
    """Exactly `size` bytes of made-up words, in pseudo-random order, into `path`."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randint(2, 6)).hex().encode() for _ in range(4000)]
    with path.open("wb") as out:
        left = size
        while left:
            block = separator.join(chance.choices(words, k=BLOCK_WORDS))[:left]
            left -= out.write(block)
