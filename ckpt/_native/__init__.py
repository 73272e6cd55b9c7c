"""The extension: what Python lacks. `lib` holds the functions, `ffi` makes their arguments.

Every function returns -errno on failure unless its header in `src/` says otherwise; `check` turns
that into OSError. No function here runs Python, and all run without the GIL.
"""

import os
from typing import Any

from ckpt._native import _ckpt

ffi: Any = _ckpt.ffi
lib: Any = _ckpt.lib

__all__ = ["check", "ffi", "lib"]


def check(result: int, what: str) -> int:
    """`result`, or OSError with its errno and `what` as the file name part."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), what)
    return result
