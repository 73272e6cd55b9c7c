"""`python -m tests.bench.plainwrite FILE BYTES`: seconds that write(2) takes for memory of its own.

A process of its own, so that its memory is nobody else's peak.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from pathlib import Path

BLOCK = 1 << 20
AT_ONCE = 1 << 30


def main() -> None:
    path, size = Path(sys.argv[1]), int(sys.argv[2])
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, size, flags=flags) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        block = os.urandom(BLOCK)
        for at in range(0, size, BLOCK):
            memory[at : at + BLOCK] = block
        with path.open("wb", buffering=0) as out, memoryview(memory) as view:
            began = time.monotonic()
            done = 0
            while done < size:
                done += out.write(view[done : done + AT_ONCE])
            print(time.monotonic() - began)
    path.unlink()


if __name__ == "__main__":
    main()
