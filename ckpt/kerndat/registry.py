"""All probes by name. A new subject is one module and one line here.

Names of CRIU that are not ours are second names of a probe: asking for either is the same.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

from ckpt.errors import UsageError
from ckpt.kerndat.probe import Probe

if TYPE_CHECKING:
    from types import ModuleType

SUBJECTS = (
    "privileges",
    "tracing",
    "tracking",
    "restoring",
    "descriptors",
    "namespaces",
    "network",
)


@cache
def probes() -> tuple[Probe, ...]:
    """All, in the order of the subjects and of their text."""
    modules = (importlib.import_module(f"ckpt.kerndat.{subject}") for subject in SUBJECTS)
    return tuple(one for module in modules for one in _of(module))


def _of(module: ModuleType) -> tuple[Probe, ...]:
    made: tuple[Probe, ...] = getattr(module, "PROBES", ())
    return (*made, *(value for value in vars(module).values() if isinstance(value, Probe)))


@cache
def by_name() -> dict[str, Probe]:
    """Every name, CRIU's included."""
    return {name: one for one in probes() for name in one.names}


def find(name: str) -> Probe:
    """One probe. Raises UsageError for a name that nobody knows."""
    found = by_name().get(name)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, by_name(), 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`--feature list` names all"
        raise UsageError("unknown feature", resource=f"--feature {name}", hint=hint)
    return found
