"""The vdso of a kernel that this one is not, put into running victims before they are dumped.

Whatever calls a function in it, and is not led elsewhere, dies of an illegal instruction.
"""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

from ckpt.infect.place import Memory
from ckpt.mem.vdso import Vdso
from tests.support.machine import Mapped, mappings

if TYPE_CHECKING:
    from pathlib import Path

_UD2 = b"\x0f\x0b"
_SCRIPT = """
SECTIONS {
  . = SIZEOF_HEADERS;
  .hash : { *(.hash) } :text
  .gnu.hash : { *(.gnu.hash) }
  .dynsym : { *(.dynsym) }
  .dynstr : { *(.dynstr) }
  .dynamic : { *(.dynamic) } :text :dynamic
  .text : { *(.text) } :text
  /DISCARD/ : { *(.note*) *(.comment) *(.eh_frame*) }
}
PHDRS { text PT_LOAD FLAGS(5) FILEHDR PHDRS; dynamic PT_DYNAMIC FLAGS(4); }
"""
_NAMES = ("time", "getcpu", "clock_getres", "gettimeofday", "clock_gettime")


def vdso_of(pid: int) -> Mapped:
    """The kernel's, in a process."""
    (found,) = (m for m in mappings(pid) if m.path == "[vdso]")
    return found


def with_traps(pid: int) -> None:
    """The functions of its vdso are where they were, and fit for nothing."""
    mapped = vdso_of(pid)
    with closing(Memory(pid)) as memory:
        vdso = Vdso(memory.read(mapped.start, mapped.end - mapped.start))
        for function in vdso.functions:
            traps = _UD2 * (function.size // 2)
            memory.write(mapped.start + function.offset, traps)


def replaced(pid: int, other: bytes) -> None:
    """Its vdso is `other`, in as many pages as before."""
    mapped = vdso_of(pid)
    assert len(other) <= mapped.end - mapped.start
    with closing(Memory(pid)) as memory:
        memory.write(mapped.start, other.ljust(mapped.end - mapped.start, b"\0"))


def other_layout(folder: Path, names: tuple[str, ...] = _NAMES, size: int = 40) -> bytes:
    """A vdso with functions of these names, in this order, of so many bytes each."""
    lines = [".text", ".skip 96, 0xcc"]
    for name in names:
        for symbol, binding in ((name, "weak"), (f"__vdso_{name}", "globl")):
            lines += [f".{binding} {symbol}", f".type {symbol}, @function", f"{symbol}:"]
        lines += [f".rept {size // 2}", "ud2", ".endr"]
        lines += [f".size {symbol}, {size}" for symbol in (name, f"__vdso_{name}")]
    (folder / "vdso.s").write_text("\n".join(lines) + "\n")
    (folder / "vdso.lds").write_text(_SCRIPT)
    made = folder / "vdso.so"
    linker = "-Wl,-T,vdso.lds,--hash-style=both,--build-id=none,-soname=linux-vdso.so.1"
    command = ["gcc", "-shared", "-nostdlib", linker, "vdso.s", "-o", str(made)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # As the kernel's, without what a linker adds for debuggers.
    subprocess.run(["strip", "-s", made], check=True)
    return made.read_bytes()
