"""The verbs by name. A verb's module is imported when it is chosen, and not before: it has
`run(args: Args) -> int`, which gives the exit code or raises what ckpt.cli.outcome turns into one.
Options are in ckpt.cli.options, since CRIU reads them before it knows the verb."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False, repr=False)
class Verb:
    """`operands`: how many words may follow. `folders`: the images' and the work folder must
    exist, and the log is opened in the latter."""

    name: str
    module: str
    summary: str
    usage: str
    example: str
    operands: int = 0
    folders: bool = False


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "dump",
            "ckpt.cli.dump",
            "write a running process tree into images",
            "-t PID [-D DIR] [options]",
            "  ckpt dump -t 4711 -D images -R        # and let it run on\n"
            "  ckpt dump -t 4711 -D images --shell-job --file-locks -v4 -o dump.log",
            folders=True,
        ),
        Verb(
            "restore",
            "ckpt.cli.restore",
            "make a process tree from images",
            "[-D DIR] [options]",
            "  ckpt restore -D images -d --pidfile pid\n"
            "  ckpt restore -D images --dry-run      # show what would be done",
            folders=True,
        ),
        Verb(
            "check",
            "ckpt.cli.check",
            "tell what this kernel lets ckpt do",
            "[--feature NAME] [--json]",
            "  ckpt check\n  ckpt check --feature mem_dirty_track && echo tracked",
        ),
        Verb(
            "show",
            "ckpt.cli.show",
            "show what an image set holds",
            "DIR [--json]",
            "  ckpt show images\n  ckpt show images --json | jq .tasks",
            operands=1,
        ),
        Verb(
            "cpuinfo",
            "ckpt.cli.cpuinfo",
            "record this CPU, or compare it with a record",
            "dump|check [-D DIR] [--cpu-cap LIST]",
            "  ckpt cpuinfo dump -D images\n  ckpt cpuinfo check -D images",
            operands=1,
        ),
    )
}

NOT_YET = {
    "pre-dump": "incremental dumps",
    "lazy-pages": "restoring before the memory has arrived",
    "page-server": "sending pages over a network",
    "dedup": "incremental dumps",
    "migrate": "moving a running tree to another machine",
    "service": "answering calls of CRIU's library",
    "swrk": "answering calls of CRIU's library",
}
