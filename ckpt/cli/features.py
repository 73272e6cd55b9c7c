"""The options of `ckpt check` that ask of the kernel."""

from __future__ import annotations

from ckpt.cli.option import Option, Status

CHECK = ("check",)

FEATURES = (
    Option(
        "feature",
        "answer for one feature by the exit code; `list` names all",
        arg="NAME",
        verbs=CHECK,
    ),
    Option("extra", "also what only some trees need", verbs=CHECK, negatable=True),
    Option("experimental", "also what is tried out", verbs=CHECK, negatable=True),
    Option("all", "both of these", verbs=CHECK),
    Option(
        "ms",
        "an old name",
        verbs=CHECK,
        status=Status.REFUSED,
        why="CRIU refuses it as well; see --all",
    ),
)
