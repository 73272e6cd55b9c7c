"""Work that dies, without any clean-up, at the N-th of its system calls about files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[..., Any]

CALLS = ("open", "write", "rename", "fsync", "close", "unlink")
_DIED = 9


def killed_at(
    call: int,
    work: Callable[[], None],
    names: tuple[str, ...] = CALLS,
    *,
    more: Callable[[Callable[[Call], Call]], None] | None = None,
) -> bool:
    """Do `work` in a child that dies at its `call`-th call of these names of `os`; False if it came
    to its end. `more` gets what makes a call one that counts, to put it around others."""
    pid = os.fork()
    if pid == 0:
        try:
            _die_at(call, names, more)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, _DIED)
    return code == _DIED


def _die_at(
    call: int, names: tuple[str, ...], more: Callable[[Callable[[Call], Call]], None] | None
) -> None:
    left = call

    def counted(real: Call) -> Call:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(_DIED)
            return real(*args, **kwargs)

        return wrapped

    for name in names:
        setattr(os, name, counted(getattr(os, name)))
    if more:
        more(counted)
