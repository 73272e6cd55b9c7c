"""What of an XSAVE area can be compared."""

from __future__ import annotations

_IN_USE = slice(512, 520)


def contents(xstate: bytes) -> bytes:
    """Without XSTATE_BV: of a part with its initial content the processor may say or not say that
    it is in use (Intel's SDM, volume 1, 13.6)."""
    return xstate[: _IN_USE.start] + xstate[_IN_USE.stop :]
