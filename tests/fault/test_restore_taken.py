"""What makes a number unusable for a restore, and a restore without the powers that it needs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from ckpt.restore.numbers import taken_numbers
from tests.fault.family import Family
from tests.fault.injection import Faults
from tests.support import processes
from tests.support.case import Case

RESTORE, KERNEL = 6, 7
SYS_ADMIN, CHECKPOINT_RESTORE = 21, 40


def test_number_of_a_thread() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        number = thread.native_id
        assert number is not None
        assert dict(taken_numbers({number}))[number] == "a process or thread has it"
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("found", "what"), [(os.setpgrp, "group"), (os.setsid, "session")], ids=["group", "session"]
)
@pytest.mark.usefixtures("built")  # whoever is orphaned becomes our child
def test_number_of_a_dead_leader(found: Callable[[], None], what: str) -> None:
    """The leader is gone and reaped; a member lives, and the number can't be given again."""
    heard, told = os.pipe()
    wait, end = os.pipe()
    leader = os.fork()
    if leader == 0:
        os.close(end)
        found()
        member = os.fork()
        if member == 0:
            os.read(wait, 1)
        else:
            os.write(told, str(member).encode())
        os._exit(0)
    os.waitpid(leader, 0)
    member = int(os.read(heard, 32))
    try:
        said = [why for number, why in taken_numbers({leader}) if number == leader]
        assert any(f"pid {member} is in the {what}" in why for why in said), said
    finally:
        for lfd in (heard, told, wait, end):
            os.close(lfd)
        processes.wait_gone([member])
    assert not dict(taken_numbers({leader}))


def test_without_the_capabilities(case: Case) -> None:
    """Said as an error of its kind; nothing is left, and with them it works."""
    family = Family(case)
    end = family.restore(Faults(), without=(SYS_ADMIN, CHECKPOINT_RESTORE))
    assert end.code in (RESTORE, KERNEL), str(end)
    assert "CAP_CHECKPOINT_RESTORE" in end.said, str(end)
    family.assert_none_left("without capabilities")
    family.whole_restore("with them")
