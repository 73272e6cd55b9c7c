"""What the keeper lends is always served by somebody."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ckpt.errors import KernelError
from ckpt.mem.tracking.client import Keeper
from ckpt.mem.tracking.engine import Mode
from tests.process.test_keeper import tracking
from tests.support.commanded import Commanded


def test_a_borrower_without_room_for_a_descriptor(built: Path) -> None:
    """It serves nothing, and says so at once: writes go on, served by the keeper."""
    with Commanded(built) as target:
        with tracking(target, Mode.SYNC) as keeper:
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            try:
                with pytest.raises(KernelError, match="not understood"):
                    keeper.lend(target.pid)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            target.write(*range(64))
        again = Keeper.find(target.pid)
        assert again is not None
        with again:
            again.untrack()
        target.finish()
