"""What errors say, and that each kind has an exit code of its own."""

from __future__ import annotations

from ckpt import errors
from ckpt.errors import CkptError, Refusal, RefusedError, TargetError


def kinds() -> list[type[CkptError]]:
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, CkptError)
    ]


def test_every_kind_has_its_own_exit_code() -> None:
    codes = [kind.exit_code for kind in kinds()]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert all(code < 126 for code in codes)


def test_an_error_says_where_what_why_and_what_helps() -> None:
    error = TargetError("can't be read", pid=7, resource="maps", why="gone", hint="look again")
    assert str(error) == "pid 7: maps: can't be read: gone (look again)"
    assert (error.pid, error.resource, error.why, error.hint) == (7, "maps", "gone", "look again")


def test_what_is_not_known_is_not_said() -> None:
    assert str(CkptError("failed")) == "failed"
    assert str(CkptError("failed", pid=0)) == "pid 0: failed"


def test_refusals_are_told_all_at_once() -> None:
    first = Refusal(1, "descriptor 3", "a socket", "close it")
    second = Refusal(2, "mapping 1000", "a device")
    error = RefusedError([first, second])
    assert error.refusals == (first, second)
    assert str(first) == "pid 1: descriptor 3: a socket (close it)"
    assert str(first) in str(error)
    assert str(second) in str(error)
