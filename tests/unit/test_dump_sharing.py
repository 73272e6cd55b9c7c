"""What can't be told of tasks is not taken for what they don't share."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from ckpt.dump import sharing
from ckpt.pstree.sharing import FS, VM


def told(monkeypatch: pytest.MonkeyPatch, result: int) -> None:
    """Have kcmp(2) give this, whatever it is asked."""
    monkeypatch.setattr(sharing, "lib", SimpleNamespace(ckpt_kcmp=lambda *_: result))


def test_no_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, -errno.EPERM)
    with pytest.raises(PermissionError, match="kcmp"):
        sharing.sharing_of([10, 11])
    with pytest.raises(PermissionError, match="kcmp"):
        sharing.apart(10, [10, 11], FS)


def test_who_has_ended_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, -errno.ESRCH)
    assert sharing.sharing_of([10, 11]).first(VM, 11) == 11
    assert sharing.apart(10, [10, 11], FS) == []


def test_those_who_share_come_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    told(monkeypatch, 0)
    assert sharing.sharing_of([10, 11]).first(VM, 11) == 10
