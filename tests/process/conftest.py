"""Two machines, as far as namespaces make them, for tests that move a tree from one to another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.worlds import World


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="module")
def there() -> Iterator[World]:
    with World() as world:
        yield world
