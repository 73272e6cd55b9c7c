"""Why a server of pages has stopped, for people to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ckpt.mem.missing.contents import Contents

_REASONS = {
    14: "the file is shorter than it was",
    34: "the file is shorter than its pagemap says",
    74: "the page server answered what was not asked for",
    104: "the connection is gone",
    110: "nothing has come for a minute",
    131: "shared memory was given back while it came, and nobody can tell what of it",
    117: "rotten: its sum is not the one recorded",
}


def reason(told: Any, contents: Contents) -> str:
    """From a struct ckpt_lazy_told with an error: where, and what."""
    what = _REASONS.get(int(told.error), os.strerror(int(told.error)))
    if told.error_source >= len(contents.sources):
        return what
    lfd = contents.sources[told.error_source].lfd
    try:
        where = os.readlink(f"/proc/self/fd/{lfd}")  # noqa: PTH115 (a Path changes the text)
    except OSError:
        where = "its source"
    return f"{where} at {int(told.error_at):#x}: {what}"
