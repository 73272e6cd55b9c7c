"""Who the controller is, in the eyes of a target."""

from __future__ import annotations

import os

from ckpt.errors import TargetError
from ckpt.procfs.reader import ProcDir

_NS = "ns/pid"


def pid_for(proc: ProcDir) -> int:
    """Our pid as the task at `proc` can ask for it with kill(2); 0 where it is in another pid
    namespace, from which we may not be seen."""
    with ProcDir(os.getpid()) as own:
        try:
            same = own.readlink(_NS) == proc.readlink(_NS)
        except TargetError:
            return 0
    return os.getpid() if same else 0
