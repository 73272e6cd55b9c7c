"""The options of chains of images. A part of ckpt.cli.options."""

from __future__ import annotations

from ckpt.cli import values
from ckpt.cli.option import Option, Status

DUMPS = ("dump", "pre-dump")
CHAINED = (*DUMPS, "page-server")

TRACK = ("track",)
SNAPSHOT = ("snapshot",)

INCREMENT = (
    Option(
        "prev-images-dir",
        "set to build on, relative to the folder of images: what it has is not written again",
        arg="DIR",
        verbs=CHAINED,
    ),
    Option(
        "track-mem",
        "track what is written from now on (a pre-dump always does); snapshot: after its end, too; "
        "restore: with --lazy or --lazy-pages only",
        verbs=(*DUMPS, "restore", *SNAPSHOT),
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
        "how many looks, or generations (default: until the tree ends)",
        arg="N",
        verbs=(*TRACK, *SNAPSHOT),
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
        verbs=(*DUMPS, *TRACK, *SNAPSHOT, "migrate"),
        parse=values.track_mode,
        criu=False,
    ),
    Option(
        "every",
        "time from one generation to the next, such as 10s, 500ms, 5m, 1h (default 10s)",
        arg="TIME",
        verbs=SNAPSHOT,
        parse=values.duration,
        criu=False,
    ),
    Option(
        "keep",
        "how many of the newest generations stay; older ones thin out (default 20)",
        arg="N",
        verbs=SNAPSHOT,
        parse=values.keep,
        criu=False,
    ),
    Option(
        "at",
        "the generation of a store: its number, or the newest one at a time such as 14:30, "
        "2026-11-21T14:30:05, -5m (ago), or latest",
        arg="N|TIME",
        verbs=("restore",),
        parse=values.generation,
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
        verbs=("dump", "migrate"),
        parse=values.rounds,
        criu=False,
    ),
    Option(
        "max-downtime",
        "frozen time in milliseconds that --pre-rounds auto must get below, or fail",
        arg="MS",
        verbs=("dump", "migrate"),
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
