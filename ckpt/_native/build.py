"""Write the C source of the extension `ckpt._native._ckpt` (cffi, API mode).

usage: build.py OUT.c WIRE.h HEADER.h ...

Each subject in `src/` has one header that both the C compiler and `ffi.cdef()` read: plain
declarations, no #if, no #include; its guard and includes live in `src/native.h`.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

# Numbers come from the kernel's own header, by name: batches and the tracer use no other source.
SYSCALLS = Path(__file__).with_name("syscalls.txt").read_text().split()


def constants(header: str) -> str:
    """cffi wants `#define NAME ...` for values that the compiler shall fill in."""
    return re.sub(r"^#define\s+(\w+)\s+.*$", r"#define \1 ...", header, flags=re.MULTILINE)


def main(target: str, *headers: str) -> None:
    ffi = FFI()
    for header in headers:
        ffi.cdef(constants(Path(header).read_text()))
    ffi.cdef("".join(f"#define __NR_{name} ...\n" for name in SYSCALLS))
    ffi.cdef("static const uint64_t ckpt_wire_hash;")
    ffi.set_source(
        "ckpt._native._ckpt",
        '#include "native.h"\nstatic const uint64_t ckpt_wire_hash = CKPT_WIRE_HASH;\n',
    )
    ffi.emit_c_code(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
