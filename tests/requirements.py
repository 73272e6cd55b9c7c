"""What a test needs of the machine. A skip has a reason, and CKPT_TEST_REQUIRE=all forbids it."""

from __future__ import annotations

import os

import pytest


def require(condition: object, why: str) -> None:
    """Skip the calling test unless `condition`; fail it when everything is required.

    `why` names what is missing, as in "crit is not installed".
    """
    if condition:
        return
    if os.environ.get("CKPT_TEST_REQUIRE") == "all":
        pytest.fail(f"required, but: {why}", pytrace=False)
    pytest.skip(why)
