"""Filters: what they may answer, chains in images."""

from __future__ import annotations

import struct

import pytest

from ckpt.images.pb.core_pb2 import thread_core_entry
from ckpt.images.pb.seccomp_pb2 import seccomp_entry
from ckpt.infect.batch import number
from ckpt.task import bpf, seccomp
from ckpt.task.seccomp import Filter

Insn = tuple[int, int, int, int]
NR, ARCH, ARG0 = 0, 4, 16
LD, JEQ, JGE, JSET, JA, RET, RET_A, AND = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06, 0x16, 0x54


def program(*insns: Insn) -> bytes:
    return b"".join(struct.pack("<HBBI", *insn) for insn in insns)


def answer(action: int, more: int = 0) -> Insn:
    return (RET, 0, 0, action | more)


ALLOW_ALL = program(answer(bpf.ALLOW))


def test_the_number_decides() -> None:
    raw = program((LD, 0, 0, NR), (JEQ, 0, 1, 39), answer(bpf.ERRNO, 13), answer(bpf.ALLOW))
    assert bpf.actions(raw, 39) == {bpf.ERRNO}
    assert bpf.actions(raw, 40) == {bpf.ALLOW}


def test_arguments_may_be_anything() -> None:
    raw = program(
        (LD, 0, 0, ARG0),
        (AND, 0, 0, 0xF),
        (JSET, 0, 1, 2),
        answer(bpf.KILL_PROCESS),
        answer(bpf.ALLOW),
    )
    assert bpf.actions(raw, 0) == {bpf.KILL_PROCESS, bpf.ALLOW}


def test_the_machine_is_known() -> None:
    raw = program(
        (LD, 0, 0, ARCH),
        (JEQ, 1, 0, bpf.AUDIT_ARCH_X86_64),
        answer(bpf.KILL_THREAD),
        (LD, 0, 0, NR),
        (JGE, 0, 1, 0x40000000),
        answer(bpf.TRAP),
        (JA, 0, 0, 0),
        answer(bpf.LOG),
    )
    assert bpf.actions(raw, 1) == {bpf.LOG}


def test_what_is_not_understood_is_deadly() -> None:
    assert bpf.actions(program((LD, 0, 0, ARG0), (RET_A, 0, 0, 0)), 1) == {bpf.KILL_PROCESS}
    assert bpf.actions(program((JA, 0, 0, 7), answer(bpf.ALLOW)), 1) == {bpf.KILL_PROCESS}


def test_every_comparison_of_4096_instructions_is_walked_once() -> None:
    insns: list[Insn] = []
    for _ in range(1300):
        insns += [(LD, 0, 0, ARG0), (JEQ, 0, 1, 5), (LD, 0, 0, NR)]
    assert bpf.actions(program(*insns, answer(bpf.ALLOW)), 1) == {bpf.ALLOW}


def only(name: str, action: int) -> bytes:
    return program((LD, 0, 0, NR), (JEQ, 0, 1, number(name)), answer(action), answer(bpf.ALLOW))


@pytest.mark.parametrize(
    ("name", "action", "word"),
    [
        ("munmap", bpf.ERRNO, "munmap"),
        ("rt_sigreturn", bpf.TRACE, "rt_sigreturn"),
        ("socketpair", bpf.KILL_THREAD, "socketpair"),
        ("vmsplice", bpf.TRAP, "vmsplice"),
    ],
)
def test_hazards_are_named(name: str, action: int, word: str) -> None:
    assert word in seccomp.hazard((Filter(ALLOW_ALL, 0), Filter(only(name, action), 0)))


def test_a_supervisor_is_no_matter_of_risk() -> None:
    assert "supervisor" in seccomp.supervised((Filter(only("execve", bpf.USER_NOTIF), 0),))
    assert seccomp.supervised((Filter(only("munmap", bpf.KILL_THREAD), 0),)) == ""


def test_strict_mode() -> None:
    """Alone in a chain, without a filter in the image, and no two threads' in common."""
    strict = (seccomp.STRICT_MODE,)
    assert "strict mode" in seccomp.hazard(strict) and not seccomp.supervised(strict)
    entry, known = seccomp.images([strict])
    core = thread_core_entry(futex_rla=0, futex_rla_len=0)
    seccomp.fill(core, strict, known)
    assert core.seccomp_mode == 1 and not core.HasField("seccomp_filter")
    assert seccomp.chain_of(core, entry) == strict
    assert seccomp.common([strict, strict]) == ()


@pytest.mark.parametrize(("name", "action"), [("socketpair", bpf.ERRNO), ("execve", bpf.TRAP)])
def test_what_does_no_harm_is_no_hazard(name: str, action: int) -> None:
    assert seccomp.hazard((Filter(only(name, action), 0),)) == ""


def test_chains_come_back() -> None:
    a, b, c = (Filter(program(answer(bpf.ERRNO, n)), n & seccomp.FLAG_LOG) for n in (1, 2, 3))
    chains = [(a, b), (a,), (a, b, c), (b,), ()]
    entry, known = seccomp.images(chain for chain in chains if chain)
    assert len(entry.seccomp_filters) == 4
    for chain in chains:
        core = thread_core_entry(futex_rla=0, futex_rla_len=0)
        seccomp.fill(core, chain, known)
        assert seccomp.chain_of(core, entry) == chain
    assert seccomp.common([(a, b, c), (a, b), (a, b, c)]) == (a, b)
    assert seccomp.common([(a,), ()]) == ()


def test_damaged_chains_are_found() -> None:
    entry = seccomp_entry()
    entry.seccomp_filters.add(filter=ALLOW_ALL, prev=1)
    entry.seccomp_filters.add(filter=ALLOW_ALL, prev=0)
    entry.seccomp_filters.add(filter=b"1234")
    for mode, last in ((2, 0), (2, 2), (2, 3)):
        core = thread_core_entry(seccomp_mode=mode, seccomp_filter=last)
        with pytest.raises(ValueError, match="filter"):
            seccomp.chain_of(core, entry)
