"""CPython with several threads at work."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from tests.support.case import Case

SCRIPT = Path(__file__).with_name("threads.py")


def test_threads_of_cpython(case: Case) -> None:
    """Two cycles; every chain of hashes must be what as many rounds give without them."""
    victim = case.start_command(sys.executable, "-S", str(SCRIPT))
    victim.wait_ready()
    for _ in range(2):
        # comm, stacks and heap change while it works: look only at what must not.
        case.dump_and_restore(victim, [], [], ["*/maps/*"])
    victim.finish()
    lines = [line.split() for line in victim.out.splitlines() if line != "EXIT-SUCCESS"]
    assert sorted(int(line[0]) for line in lines) == [0, 1, 2]
    for number, rounds, digest in lines:
        expected = number.encode()
        for _ in range(int(rounds)):
            expected = hashlib.sha256(expected).digest()
        assert digest == expected.hex(), f"chain {number} after {rounds} rounds"
