"""Figures that other work on the machine has no say in: everything measured is a real-time process,
the benchmark above the victim above ckpt, so that each runs when it can.

The kernel leaves 5 % to others: what computes for most of a second is held up for 50 ms.
"""

from __future__ import annotations

import argparse
import os

_CKPT, _VICTIM, _OURS = 1, 2, 3


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calm", action="store_true", help="as real-time processes")


def become_calm() -> None:
    """What is started from here on is one, too."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_OURS))


def _is_calm() -> bool:
    return os.sched_getscheduler(0) == os.SCHED_RR


def below(*words: object) -> list[str]:
    """The words of a command that gives way to the victim."""
    prefix = ("chrt", "-r", str(_CKPT)) if _is_calm() else ()
    return [*prefix, *map(str, words)]


def victim(pid: int) -> None:
    """This is the victim; a dump takes its policy along."""
    if _is_calm():
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(_VICTIM))
