"""What stands behind the end of the vdso, in its last page, is no part of it; and pages that are
all rotten are not taken for those of another kernel."""

from __future__ import annotations

from contextlib import closing

import pytest

from ckpt.infect.place import Memory, vdso_used
from tests.support.case import Case
from tests.support.machine import mappings
from tests.support.programs import program


def test_traces_behind_the_vdso(case: Case) -> None:
    """As a ckpt whose cure has failed leaves them: the set is restored all the same."""
    victim = case.start(program("memory/private"))
    vdso = next(m for m in mappings(victim.pid) if m.path == "[vdso]")
    with closing(Memory(victim.pid)) as memory:
        used = vdso_used(memory, vdso.start)
        assert 0 < used < vdso.end - vdso.start
        end = vdso.start + used
        memory.write(end, b"\xa5" * (vdso.end - end))
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone([victim.pid])
    case.ckpt.restore(case.images).ok()
    victim.finish()


@pytest.mark.parametrize("how", [(), ("--lazy",)])
def test_pages_that_are_all_rotten(case: Case, how: tuple[str, ...]) -> None:
    victim = case.start(program("memory/private"))
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone([victim.pid])
    (path,) = case.images.glob("pages-*.img")
    path.write_bytes(b"rotten" * (path.stat().st_size // 6) + b"x" * (path.stat().st_size % 6))
    case.ckpt.restore(case.images, *how).failed(5, path.name, "rotten")
    unverified = case.ckpt.restore(case.images, "--no-checksums", *how)
    assert unverified.exit_code != 0
