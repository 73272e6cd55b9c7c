"""The verbs by name. A verb's module is imported when it is chosen, and not before: it has
`run(args: Args) -> int`, which gives the exit code or raises what ckpt.cli.outcome turns into one.
Options are in ckpt.cli.options, since CRIU reads them before it knows the verb."""

from __future__ import annotations

from ckpt.record import record


@record(eq=False)
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
            "  ckpt dump -t 4711 -D images --live    # the same, and it hardly stands\n"
            "  ckpt dump -t 4711 -D images --shell-job --file-locks -v4 -o dump.log",
            folders=True,
        ),
        Verb(
            "pre-dump",
            "ckpt.cli.pre_dump",
            "write memory of a running process tree, without stopping it",
            "-t PID -D DIR [--prev-images-dir DIR] [options]",
            "  ckpt pre-dump -t 4711 -D images/1\n"
            "  ckpt pre-dump -t 4711 -D images/2 --prev-images-dir ../1\n"
            "  ckpt dump -t 4711 -D images/3 --prev-images-dir ../2",
            folders=True,
        ),
        Verb(
            "track",
            "ckpt.cli.track",
            "show what a process tree writes to its memory",
            "PID [--interval SECONDS] [--count N] [--events] [--json]",
            "  ckpt track 4711\n"
            "  ckpt track 4711 --interval 0.2 --count 50 --json | jq .bytes_per_s",
            operands=1,
        ),
        Verb(
            "untrack",
            "ckpt.cli.untrack",
            "stop tracking the writes of a process tree",
            "PID",
            "  ckpt untrack 4711",
            operands=1,
        ),
        Verb(
            "snapshot",
            "ckpt.cli.snapshot",
            "keep a store of generations of a running process tree",
            "PID [-D DIR] [--every TIME] [--keep N] [options]",
            "  ckpt snapshot 4711 --every 10s --keep 20 -D store\n"
            "  ckpt show store\n"
            "  ckpt restore -D store --at -5m        # as it was five minutes ago",
            operands=1,
            folders=True,
        ),
        Verb(
            "restore",
            "ckpt.cli.restore",
            "make a process tree from images",
            "[-D DIR] [options]",
            "  ckpt restore -D images -d --pidfile pid\n"
            "  ckpt restore -D images --dry-run      # show what would be done\n"
            "  ckpt restore -D store --at 14:30      # a generation of ckpt snapshot\n"
            "  ckpt restore -D images -d --lazy      # it runs before its memory is there",
            folders=True,
        ),
        Verb(
            "lazy-pages",
            "ckpt.cli.lazy_pages",
            "bring the memory of a tree that was restored lazily",
            "[-D DIR] [-W DIR] [options]",
            "  ckpt lazy-pages -D images &\n  ckpt restore -D images -d --lazy-pages",
            folders=True,
        ),
        Verb(
            "page-server",
            "ckpt.cli.page_server",
            "receive the pages of a dump over the network, or serve them",
            "[-D DIR] [--address ADDR] [--port PORT] [options]",
            "  ckpt page-server -D images --port 4711\n"
            "  ckpt page-server -D images --address 10.0.0.2 --port 4711 --tls \\\n"
            "      --tls-cacert ca.pem --tls-cert host.pem --tls-key host.key\n"
            "  ckpt page-server --lazy-pages -D images --port 4711   # for a lazy restore",
            folders=True,
        ),
        Verb(
            "migrate",
            "ckpt.cli.migrate",
            "move a running process tree to another machine",
            "PID --to HOST:PORT [options]",
            "  ckpt migrate 4711 --to 10.0.0.2:4712 --tls --tls-cacert ca.pem \\\n"
            "      --tls-cert host.pem --tls-key host.key\n"
            "  ckpt migrate 4711 --to 127.0.0.1:4712 --max-downtime 50 --json",
            operands=1,
        ),
        Verb(
            "serve",
            "ckpt.cli.serve",
            "take the process trees that are moved here",
            "[-D DIR] [--address ADDR] [--port PORT] [options]",
            "  ckpt serve -D /var/lib/ckpt --address 10.0.0.2 --port 4712 --tls \\\n"
            "      --tls-cacert ca.pem --tls-cert host.pem --tls-key host.key\n"
            "  ckpt serve -D images --port 4712 --once",
            folders=True,
        ),
        Verb(
            "check",
            "ckpt.cli.check",
            "tell what this kernel lets ckpt do, or what is in a dump's way",
            "[--feature NAME | --tree PID [options]] [--json]",
            "  ckpt check\n  ckpt check --feature mem_dirty_track && echo tracked\n"
            "  ckpt check --tree 4711 --file-locks   # what would a dump be refused for?",
        ),
        Verb(
            "show",
            "ckpt.cli.show",
            "show what an image set holds, or a store",
            "DIR [--json]",
            "  ckpt show images\n  ckpt show images --json | jq .tasks\n"
            "  ckpt show store                       # the generations of ckpt snapshot",
            operands=1,
        ),
        Verb(
            "diff",
            "ckpt.cli.diff",
            "tell which mappings of two image sets differ, by how many pages",
            "DIR DIR [--json]",
            "  ckpt diff images/1 images/2\n  ckpt diff images/1 images/2 --json | jq .pages",
            operands=2,
        ),
        Verb(
            "dedup",
            "ckpt.cli.dedup",
            "free pages of older sets that a newer one replaces",
            "[-D DIR] [--json]",
            "  ckpt dedup -D images/3                # the newest set of the chain",
            folders=True,
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
    "service": "answering calls of CRIU's library",
    "swrk": "answering calls of CRIU's library",
}
