"""Open files: the registry of kinds of descriptors, dump and restore side by side.

`FilesDump` and `FilesRestore` are what orchestrators use; see ckpt.files.dump and
ckpt.files.restore for the order of calls, ckpt.files.kind for how a new kind is made. Both are
loaded when they are asked for, so that a dump does not pay for the restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt.files.dump import FilesDump
    from ckpt.files.dumping import FileOptions
    from ckpt.files.restore import FilesRestore
    from ckpt.files.restoring import RestoreFileOptions

__all__ = ["FileOptions", "FilesDump", "FilesRestore", "RestoreFileOptions"]

_HOMES = {
    "FileOptions": "dumping",
    "FilesDump": "dump",
    "FilesRestore": "restore",
    "RestoreFileOptions": "restoring",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
