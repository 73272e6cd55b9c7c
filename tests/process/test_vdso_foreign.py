"""Trees that were dumped with the vdso of another kernel."""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ckpt.images import framing
from ckpt.infect.place import Memory
from ckpt.mem.vdso import Vdso
from ckpt.mem.vma import Status
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from tests.support import processes
from tests.support.case import Case
from tests.support.foreignvdso import other_layout, replaced, vdso_of, with_traps
from tests.support.machine import mappings
from tests.support.programs import program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.victim import Victim


def dump(case: Case, victim: Victim, *options: str) -> None:
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, *options).ok()
    victim.await_gone(pids)


def carry(case: Case, victim: Victim) -> None:
    """A dump and a restore."""
    dump(case, victim)
    case.ckpt.restore(case.images).ok()
    for image in case.images.iterdir():
        image.unlink()


def trapped(victim: Victim) -> None:
    for pid in victim.tree:
        with_traps(pid)


def test_its_functions_lead_to_those_of_this_kernel(case: Case) -> None:
    """And do so after a second dump, which knows nothing of it."""
    victim = case.start(program("vdso/clocks", "libc"))
    before = vdso_of(victim.pid)
    trapped(victim)
    carry(case, victim)
    for pid in victim.tree:
        after = vdso_of(pid)
        assert after != before
        (old,) = (m for m in mappings(pid) if m.start == before.start)
        assert old.access == "r-xp"
        assert not [m for m in mappings(pid) if "w" in m.access and "x" in m.access]
    carry(case, victim)
    assert vdso_of(victim.pid) == after
    victim.finish()


def test_another_layout_and_another_kernel_again(case: Case, tmp_path: Path) -> None:
    """What stands in for a vdso leads on to what stands in for the next one."""
    victim = case.start(program("vdso/clocks", "alone"))
    other = other_layout(tmp_path)
    for pid in victim.tree:
        replaced(pid, other)
    places = [vdso_of(victim.pid).start]
    for _ in range(2):
        carry(case, victim)
        assert vdso_of(victim.pid).start not in places
        places.append(vdso_of(victim.pid).start)
        trapped(victim)
    dump(case, victim)
    case.ckpt.restore(case.images, "--lazy").ok()
    victim.finish()


def edited(case: Case, image: str, change: Callable[[Any], None]) -> None:
    """One message of a set without checksums."""
    path = case.images / f"{image}.img"
    raw = path.read_bytes()
    (record,) = framing.decode(image, raw)
    change(record.message)
    path.write_bytes(framing.encode(image, [record.message]))


def dumped(case: Case, victim: Victim) -> None:
    """With fewer mappings of the kernel's data than here."""

    def one_less(mm: Any) -> None:
        del mm.vmas[next(i for i, v in enumerate(mm.vmas) if v.status & Status.VVAR)]

    dump(case, victim, "--no-checksums")
    for path in case.images.glob("mm-*.img"):
        edited(case, path.stem, one_less)


def test_other_mappings_beside_it(case: Case) -> None:
    victim = case.start(program("vdso/clocks", "libc"))
    dumped(case, victim)
    planned = case.ckpt.restore(case.images, "--dry-run").ok().stdout
    assert planned.count("its vdso is of another kernel, ") == 2
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_thread_in_the_middle_of_it(case: Case) -> None:
    victim = case.start(program("vdso/clocks", "libc"))
    at = vdso_of(victim.pid).start + 0x900
    dumped(case, victim)

    def stands_in_it(core: Any) -> None:
        core.thread_info.gpregs.ip = at

    edited(case, f"core-{victim.pid}", stands_in_it)
    said = ("another kernel, and it stands in the middle", f"thread {victim.pid}", "dump it again")
    case.ckpt.restore(case.images).failed(6, *said)
    assert not processes.state(victim.pid)


def test_a_signal_in_the_middle_of_it(case: Case) -> None:
    """What looks like a frame of a signal, where nobody misses what was there: in PATH."""
    victim = case.start(program("vdso/clocks", "libc"))
    mapped = vdso_of(victim.pid)
    with closing(Memory(victim.pid)) as memory:
        vdso = Vdso(memory.read(mapped.start, mapped.end - mapped.start))
        inside = mapped.start + vdso.functions[0].offset + 4
        path = environment(victim.pid) + len("PATH=")
        memory.write(path + -path % 8, struct.pack("<3Q", inside, 0, 0x33))
    dumped(case, victim)
    said = ("another kernel, and a signal has interrupted it", f"thread {victim.pid}")
    case.ckpt.restore(case.images).failed(6, *said)


def environment(pid: int) -> int:
    """Where that of a process begins, which here is PATH."""
    with ProcDir(pid) as proc:
        return parse_stat(proc.read("stat")).env_start
