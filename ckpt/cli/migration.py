"""The options of a migration. A part of ckpt.cli.options."""

from __future__ import annotations

from ckpt.cli import values
from ckpt.cli.option import Option

MIGRATE = ("migrate",)
SERVE = ("serve",)

MIGRATION = (
    Option(
        "to",
        "where ckpt serve is: HOST:PORT, or [IPV6]:PORT",
        arg="HOST:PORT",
        verbs=MIGRATE,
        parse=values.host_and_port,
        criu=False,
    ),
    Option(
        "mode",
        "how memory moves: precopy (default), in rounds while the tree runs, then the rest; "
        "postcopy, when it runs there already; hybrid, in rounds, and the rest then",
        arg="MODE",
        verbs=MIGRATE,
        parse=values.migrate_mode,
        criu=False,
    ),
    Option("once", "end when one tree has come", verbs=SERVE, criu=False),
)
