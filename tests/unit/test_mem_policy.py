"""NUMA policies: answers, images, and what a restore does about them."""

from __future__ import annotations

import pytest

from ckpt.images.pb.ckpt_thread_pb2 import ckpt_thread_entry
from ckpt.infect.batch import Batch
from ckpt.mem import policy
from ckpt.mem.build import NOTHING, Memory, plan_memory
from ckpt.mem.policy import DEFAULT, Policy
from ckpt.mem.vma import MAP_ANONYMOUS, MAP_PRIVATE, Status, Vma
from ckpt.units import PAGE, Range

BIND, INTERLEAVE, RELATIVE = 2, 3, 1 << 14
ANON = Status.REGULAR | Status.ANON_PRIVATE


def mapping(start: int, end: int, wanted: Policy = DEFAULT) -> Vma:
    where = Range(start * PAGE, end * PAGE)
    return Vma(where, 3, MAP_PRIVATE | MAP_ANONYMOUS, ANON, policy=wanted)


def test_answers() -> None:
    raw = (BIND | RELATIVE).to_bytes(8, "little") + (0b101).to_bytes(56, "little")
    assert policy.answer(raw) == Policy(BIND | RELATIVE, 0b101)
    assert policy.answer(bytes(policy.ANSWER_SIZE)) == DEFAULT
    assert not DEFAULT and Policy(BIND, 1)


def test_image_and_back() -> None:
    own = ckpt_thread_entry()
    policy.fill(own, DEFAULT)
    assert own == ckpt_thread_entry()
    policy.fill(own, Policy(INTERLEAVE, 1 << 200 | 1))
    policy.fill_mappings(own, {PAGE: Policy(BIND, 2), 5 * PAGE: Policy(4)})
    assert policy.of_thread(own) == Policy(INTERLEAVE, 1 << 200 | 1)
    assert policy.by_start(own) == {PAGE: Policy(BIND, 2), 5 * PAGE: Policy(4)}
    assert policy.of_thread(None) == DEFAULT and policy.by_start(None) == {}


def test_too_many_nodes() -> None:
    own = ckpt_thread_entry(mempolicy=BIND, mempolicy_nodes=bytes(57))
    with pytest.raises(ValueError, match="456 nodes"):
        policy.check(own)


def test_plan_binds_before_it_fills() -> None:
    """New mappings get their own; what is kept of the creator gets it where that had another."""
    bound = Policy(BIND, 1)
    old = Memory((mapping(0, 2, bound), mapping(2, 4), mapping(4, 6, bound)), ())
    assert plan_memory(old, NOTHING, lambda *_: ()).bind == [
        (Range(0, 2 * PAGE), bound),
        (Range(4 * PAGE, 6 * PAGE), bound),
    ]
    new = Memory((mapping(0, 2), mapping(2, 4, bound), mapping(4, 6, bound)), ())
    assert plan_memory(new, old, lambda *_: ()).bind == [
        (Range(0, 2 * PAGE), DEFAULT),
        (Range(2 * PAGE, 4 * PAGE), bound),
    ]


def test_questions_are_the_same_for_the_same_mappings() -> None:
    starts = tuple(range(PAGE, 1201 * PAGE, PAGE))
    made = policy.questions(starts)
    assert [len(batch) for batch, _ in made] == [500, 500, 200]
    assert policy.questions(starts) is made and policy.questions(()) == ()


def test_calls_that_take_a_policy_away_name_no_nodes() -> None:
    batch = Batch()
    policy.set_own(batch, DEFAULT)
    policy.bind(batch, Range(0, PAGE), Policy(4))
    assert batch.names == {"set_mempolicy", "mbind"} and batch.size < 300


def test_nodes() -> None:
    assert [policy.parse_nodes(raw) for raw in (b"0\n", b"0-1\n", b"0,2\n", b"\n")] == [1, 3, 5, 0]
    wanted = [Policy(BIND, 0b110), Policy(BIND | RELATIVE, 1 << 9), DEFAULT]
    assert policy.numbers(policy.missing(wanted, 0b011)) == [2]
    assert policy.missing(wanted, 0b111) == 0
