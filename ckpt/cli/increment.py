"""The options of chains of images. A part of ckpt.cli.options."""

from __future__ import annotations

from ckpt.cli import values
from ckpt.cli.option import Option, Status

DUMPS = ("dump", "pre-dump")
CHAINED = (*DUMPS, "page-server")

TRACK = ("track",)

INCREMENT = (
    Option(
        "prev-images-dir",
        "set to build on, relative to the folder of images: what it has is not written again",
        arg="DIR",
        verbs=CHAINED,
    ),
    Option(
        "track-mem",
        "track what is written from now on (a pre-dump always does)",
        verbs=DUMPS,
        negatable=True,
    ),
    Option(
        "interval",
        "seconds between two looks (default 1)",
        arg="SECONDS",
        verbs=TRACK,
        parse=values.interval,
        criu=False,
    ),
    Option(
        "count",
        "how many looks (default: until the tree ends)",
        arg="N",
        verbs=TRACK,
        parse=values.number,
        criu=False,
    ),
    Option(
        "events",
        "print each page as it is written, once between two looks",
        verbs=TRACK,
        criu=False,
    ),
    Option(
        "track-mode",
        "how writes are tracked: async (by the kernel alone), sync (ckpt serves each first one)",
        arg="MODE",
        verbs=(*DUMPS, *TRACK),
        parse=values.track_mode,
        criu=False,
    ),
    Option(
        "auto-dedup",
        "free the pages of older sets that the new one overrides",
        verbs=CHAINED,
        negatable=True,
    ),
    Option(
        "pre-rounds",
        "make N pre-dumps first, into pre-1, pre-2, ...; auto: as many as shorten the frozen time",
        arg="N",
        verbs=("dump",),
        parse=values.rounds,
        criu=False,
    ),
    Option(
        "max-downtime",
        "frozen time in milliseconds that --pre-rounds auto must get below, or fail",
        arg="MS",
        verbs=("dump",),
        parse=values.milliseconds,
        criu=False,
    ),
    Option(
        "pre-dump-mode",
        "splice or read",
        arg="MODE",
        verbs=("pre-dump",),
        parse=values.pre_dump_mode,
        status=Status.ACCEPTED,
        why="either way a pre-dump reads the memory of a running tree and freezes nothing",
    ),
)
