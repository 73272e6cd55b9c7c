"""The options of live dumps. A part of ckpt.cli.options."""

from __future__ import annotations

from ckpt.cli import values
from ckpt.cli.option import Option

LIVE = (
    Option(
        "live",
        "let the tree run on while its memory is written; the image is of one instant. "
        "MODE: wp, fork or auto",
        arg="MODE",
        arg_optional=True,
        verbs=("dump",),
        parse=values.live,
        criu=False,
    ),
    Option(
        "live-catch",
        "catch calls that take memory away before it was copied: always, or auto: once some were "
        "seen; it slows all calls of the tree",
        arg="MODE",
        verbs=("dump",),
        parse=values.live_catch,
        criu=False,
    ),
    Option(
        "live-memory",
        "most that --live takes for buffers (default 64M)",
        arg="SIZE",
        verbs=("dump",),
        parse=values.live_memory,
        criu=False,
    ),
    Option(
        "max-slowdown",
        "how much of the time the sweep of --live works at most, in per cent (default 100)",
        arg="PERCENT",
        verbs=("dump",),
        parse=values.percent,
        criu=False,
    ),
)
