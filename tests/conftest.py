"""Set-up for every room of tests.

The tests run against the installed package, which alone has the extension, so the source tree goes
behind it on the path: it is needed there only for `tests` itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = str(Path(__file__).resolve().parent.parent)

sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]

from tests.requirements import require  # noqa: E402
from tests.support.case import Case, fresh_case  # noqa: E402
from tests.support.procfd import become_subreaper  # noqa: E402
from tests.support.terminals import have_own_terminals  # noqa: E402
from tests.support.worlds import World  # noqa: E402

# An example that waits for a busy machine is not wrong: no time of the clock is judged.
_UNJUDGED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
# `make test` tries the same examples each time, so that whoever changes nothing breaks nothing;
# `make stress` tries new ones.
settings.register_profile(
    "ckpt",
    deadline=None,
    suppress_health_check=_UNJUDGED,
    derandomize=not os.environ.get("CKPT_STRESS"),
)
settings.load_profile("ckpt")


def pytest_configure() -> None:
    """A terminated run clears away what it started, as an interrupted one does."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))


@pytest.fixture(scope="session")
def built() -> Iterator[Path]:
    """Where the compiled victims of this session are."""
    require(os.geteuid() == 0, "dump and restore need root")
    have_own_terminals()
    become_subreaper()
    folder = Path(tempfile.mkdtemp(prefix="ckpt-victims-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def case(built: Path) -> Iterator[Case]:
    """One case; see tests/support/case.py."""
    with fresh_case(built) as current:
        yield current


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    """One of two machines, as far as namespaces make them, for trees that move."""
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def there() -> Iterator[World]:
    """The other one."""
    with World() as world:
        yield world
