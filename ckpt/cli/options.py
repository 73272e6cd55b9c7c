"""Every option, once: CRIU 4.2's full list and ours. Help, man page tests and the README's table
are made from it, so an option can't be accepted without being listed.

The rule for what is not implemented: an option that would only widen or adjust how something is
dumped which ckpt refuses by name anyway (a socket, a foreign namespace, a deleted file) is accepted
without effect, since the outcome stays correct. An option that asks for something to be done is
refused by name until it is.

Source of spellings and arguments: criu(8), `criu --help` and the option table of CRIU 4.2.
"""

from __future__ import annotations

from functools import partial

from ckpt.cli import values
from ckpt.cli.cgroups import CGROUPS
from ckpt.cli.features import CHECK, FEATURES
from ckpt.cli.increment import DUMPS, INCREMENT, SNAPSHOT
from ckpt.cli.live_options import LIVE
from ckpt.cli.migration import MIGRATE, MIGRATION, SERVE
from ckpt.cli.namespaces import NAMESPACES
from ckpt.cli.network import NETWORK, SERVER
from ckpt.cli.option import Option, Status

ALL = (
    *("dump", "pre-dump", "restore", "page-server", "lazy-pages", "check", "show", "diff", "dedup"),
    *("cpuinfo", "track", "untrack", "snapshot", "migrate", "serve"),
)
DUMP = ("dump",)
RESTORE = ("restore",)
BOTH = ("dump", "restore")
JUDGED = (*DUMPS, *CHECK, *SNAPSHOT, *MIGRATE)
"""Who says what a dump would be refused for."""
MAKES = (*BOTH, *SNAPSHOT)

_accepted = partial(Option, status=Status.ACCEPTED)
_refused = partial(Option, status=Status.REFUSED)


COMMON = (
    Option("help", "show this text", short="h", verbs=ALL),
    Option("version", "show the version", short="V", verbs=ALL),
    Option(
        "images-dir",
        "folder of the image files (default: the current one)",
        short="D",
        arg="DIR",
        verbs=ALL,
        parse=values.folder,
    ),
    Option(
        "work-dir",
        "folder for log, pidfile and statistics (default: the images' folder)",
        short="W",
        arg="DIR",
        verbs=ALL,
        parse=values.folder,
    ),
    Option("log-file", "write the log to FILE, not to stderr", short="o", arg="FILE", verbs=ALL),
    Option(
        "verbosity",
        "how much is logged: 0 nothing, 1 errors, 2 warnings (default), 3 steps and times, "
        "4 everything; without N, or -v, -vv: one more each",
        short="v",
        arg="N",
        arg_optional=True,
        verbs=ALL,
        dest="log_level",
        merge=values.log_level,
        initial=2,
    ),
    Option("config", "read this configuration, not the default ones", arg="FILE", verbs=ALL),
    Option("no-default-config", "read no default configuration", verbs=ALL),
    Option(
        "close",
        "close this descriptor of ckpt's own first",
        arg="FD",
        verbs=ALL,
        parse=values.lfd,
        repeat=True,
    ),
    Option(
        "json",
        "print the result as JSON",
        verbs=(
            *(*DUMPS, "restore", *SERVER, "lazy-pages", "check", "show", "diff", "dedup"),
            *("track", "untrack", *SNAPSHOT, *MIGRATE, *SERVE),
        ),
        criu=False,
    ),
    _accepted(
        "log-pid",
        "a log file for each pid",
        negatable=True,
        why="one process does all of the work and writes one log",
    ),
    _accepted(
        "unprivileged",
        "make do without root",
        negatable=True,
        why="ckpt always works with the privileges that it has, and names those it lacks",
    ),
    _accepted(
        "deprecated", "allow deprecated functions", negatable=True, why="ckpt has none of them"
    ),
    _accepted("libdir", "folder of plugins", short="L", arg="DIR", why="ckpt has no plugins"),
    Option(
        "action-script",
        "run FILE at every stage; CRTOOLS_SCRIPT_ACTION names it, see ckpt(1)",
        arg="FILE",
        verbs=(*MAKES, *SERVER),
        repeat=True,
    ),
    _refused("stream", "images through criu-image-streamer", negatable=True, why="not there yet"),
)

TREE = (
    Option(
        "tree",
        "pid of the root of the tree",
        short="t",
        arg="PID",
        verbs=JUDGED,
        parse=values.pid,
    ),
    Option(
        "leave-running",
        "let the tree run on after the dump",
        short="R",
        verbs=DUMP,
        clears=("leave_stopped",),
    ),
    Option(
        "leave-stopped",
        "leave the tree stopped (SIGSTOP)",
        short="s",
        clears=("leave_running",),
    ),
    Option(
        "timeout",
        "how long freezing the tree may take, in seconds (default 10; 0: no limit)",
        arg="SECONDS",
        verbs=(*DUMP, *SNAPSHOT, *MIGRATE),
        parse=values.seconds,
    ),
    Option(
        "restore-detached",
        "return as soon as the tree runs, don't wait for its end",
        short="d",
        verbs=RESTORE,
        negatable=True,
    ),
    Option(
        "restore-sibling",
        "make the tree a child of ckpt's parent (with -d)",
        short="S",
        verbs=RESTORE,
        negatable=True,
    ),
    Option(
        "pidfile",
        "write the pid of the root, or of the server, to FILE, which must not exist",
        arg="FILE",
        verbs=(*RESTORE, *SERVER, "lazy-pages", *SERVE),
    ),
    Option(
        "exec-cmd",
        "after the restore become the command that stands behind --, as the tree's parent",
        verbs=RESTORE,
    ),
    Option("exit-status", "end with the root's exit status, not 0", verbs=RESTORE, criu=False),
    Option("dry-run", "compute and print the plan, execute nothing", verbs=RESTORE, criu=False),
    Option(
        "no-checksums",
        "neither write nor verify checksums",
        verbs=(*DUMPS, "restore", *SERVER, "lazy-pages", "diff", *SNAPSHOT),
        dest="checksums",
        value=False,
        criu=False,
    ),
    Option(
        "display-stats",
        "print the statistics at the end",
        verbs=(*DUMPS, "restore"),
        negatable=True,
    ),
    Option(
        "cpu-cap",
        "what of the CPU is recorded or must match: fpu, ins, cpu, all, none, ^not "
        "(default fpu,ins; without a list: all)",
        arg="LIST",
        arg_optional=True,
        verbs=(*MAKES, "cpuinfo", *MIGRATE, *SERVE),
        parse=values.cpu_cap,
    ),
    _accepted(
        "freeze-cgroup",
        "collect the tree by a freezer cgroup",
        arg="DIR",
        verbs=DUMP,
        why="every thread is seized until no new one appears; no cgroup is needed for that",
    ),
)

FILES = (
    Option(
        "shell-job",
        "the tree is a job of a shell: its terminal and session are outside it",
        short="j",
        verbs=(*JUDGED, *RESTORE),
        negatable=True,
    ),
    Option(
        "file-locks",
        "dump and restore file locks",
        short="l",
        verbs=(*JUDGED, *RESTORE),
        negatable=True,
    ),
    Option(
        "external",
        "what is outside the tree and stays there: file[MNT_ID:INODE], tty[RDEV:DEV], pidfd[PID], "
        "unix[INODE]",
        arg="RESOURCE",
        verbs=(*JUDGED, *RESTORE),
        parse=values.external,
        repeat=True,
    ),
    Option(
        "inherit-fd",
        "use ckpt's open descriptor for a resource: fd[NUMBER]:RESOURCE",
        arg="FD:RESOURCE",
        verbs=RESTORE,
        parse=values.inherit_fd,
        repeat=True,
    ),
    _accepted(
        "evasive-devices",
        "open a device by another path",
        negatable=True,
        why="a device whose path is gone fails the restore",
    ),
    Option(
        "link-remap",
        "give a deleted file that has other names another one, for the restore to find",
        verbs=JUDGED,
        negatable=True,
    ),
    Option(
        "ghost-limit",
        "how much data a deleted file may have that is carried in the images (default 1M)",
        arg="SIZE",
        verbs=JUDGED,
        parse=values.size,
    ),
    _accepted(
        "ghost-fiemap",
        "find holes of deleted files by FIEMAP",
        negatable=True,
        why="holes are always found, by SEEK_DATA, which more file systems know",
    ),
    Option(
        "force-irmap",
        "search for watched files by their inode numbers, don't ask the kernel for their paths",
        verbs=JUDGED,
        negatable=True,
    ),
    Option(
        "irmap-scan-path",
        "where to search for watched files whose paths the kernel can't tell",
        arg="DIR",
        verbs=JUDGED,
        repeat=True,
    ),
    Option(
        "file-validation",
        "how a file is compared: filesize (default), or buildid where it has one",
        arg="METHOD",
        verbs=(*MAKES, *MIGRATE),
        parse=values.file_validation,
    ),
    Option(
        "skip-file-rwx-check",
        "don't compare the permission bits of files with those at the dump",
        verbs=RESTORE,
        negatable=True,
    ),
    _accepted(
        "allow-uprobes",
        "allow mappings of uprobes",
        negatable=True,
        why="a tree with uprobes is refused either way",
    ),
)

SOCKETS = (
    Option(
        "tcp-established",
        "dump and restore TCP connections",
        verbs=(*JUDGED, *RESTORE),
        negatable=True,
    ),
    Option(
        "tcp-close",
        "leave TCP connections out of the dump, or of what is restored: they come back closed",
        verbs=(*JUDGED, *RESTORE),
        negatable=True,
    ),
    Option(
        "unix-close",
        "leave connections of UNIX sockets out that lead out of the tree: they come back closed",
        verbs=JUDGED,
        negatable=True,
        criu=False,
    ),
    Option(
        "skip-in-flight",
        "leave out connections that no accept(2) has taken yet; they are lost",
        verbs=JUDGED,
        negatable=True,
    ),
    Option(
        "risk-seccomp",
        "also dump tasks that seccomp (its strict mode, or a filter) would kill, should ckpt be "
        "killed in the milliseconds in which it works in them",
        criu=False,
        verbs=JUDGED,
        negatable=True,
    ),
    Option(
        "network-lock",
        "how packets of connections are held off meanwhile: nftables (default) or skip; iptables "
        "is not there",
        arg="METHOD",
        verbs=(*MAKES, *MIGRATE),
        parse=values.network_lock,
    ),
    Option(
        "ext-unix-sk",
        "datagram UNIX sockets may be connected to sockets outside the tree (these, or any), to "
        "which a restore connects them again by name",
        short="x",
        arg="INODES",
        arg_optional=True,
        verbs=(*JUDGED, *RESTORE),
        parse=values.inodes,
    ),
)

MEMORY = (
    *INCREMENT,
    *LIVE,
    Option(
        "lazy-pages",
        "restore: let the tree run before its memory is there, which ckpt lazy-pages brings; "
        "page-server: serve the set in the folder of images to a lazy restore; dump: leave memory "
        "with the tree, which stands until a lazy restore has fetched it",
        verbs=("restore", "page-server", "dump"),
        negatable=True,
    ),
    Option(
        "lazy",
        "let the tree run before its memory is there, and bring that in the background",
        verbs=RESTORE,
        criu=False,
    ),
)

GROUPS: dict[str, tuple[Option, ...]] = {
    "common": COMMON,
    "the tree": TREE,
    "files and terminals": FILES,
    "sockets": SOCKETS,
    "namespaces": NAMESPACES,
    "cgroups": CGROUPS,
    "memory": MEMORY,
    "page server": NETWORK,
    "migration": MIGRATION,
    "features": FEATURES,
}
OPTIONS: tuple[Option, ...] = tuple(option for group in GROUPS.values() for option in group)
