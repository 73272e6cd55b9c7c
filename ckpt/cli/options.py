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
from ckpt.cli.option import Option, Status

ALL = ("dump", "restore", "check", "show", "cpuinfo")
DUMP = ("dump",)
RESTORE = ("restore",)
BOTH = ("dump", "restore")
CHECK = ("check",)
SERVERS = ("page-server", "lazy-pages", "service")

_accepted = partial(Option, status=Status.ACCEPTED)
_refused = partial(Option, status=Status.REFUSED)

_TCP = "a tree with TCP sockets is refused either way"
_UNIX = "a tree with Unix sockets is refused either way"
_DELETED = "a deleted file is refused either way"
_NOTIFY = "inotify and fanotify are refused either way"
_MOUNTS = "a foreign mount namespace is refused either way"
_NO_MOUNTS = "mount namespaces are not restored yet"
_NO_NET = "network namespaces are not restored yet"
_NO_CGROUPS = "cgroups are not restored yet"
_NO_INCREMENT = "incremental dumps are not there yet"
_NO_SERVER = "no verb of ckpt serves pages yet"
_NO_TLS = "no verb of ckpt opens a connection yet"
_NO_LAZY = "lazy restore is not there yet"

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
    Option("json", "print the result as JSON", verbs=(*BOTH, "check", "show"), criu=False),
    _accepted(
        "log-pid",
        "a log file for each pid",
        negatable=True,
        why="one process does all of the work and writes one log",
    ),
    _accepted(
        "status-fd",
        "write a zero byte to FD once requests are served",
        arg="FD",
        parse=values.lfd,
        why="dump and restore serve no requests; CRIU does not write to it there either",
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
    _refused(
        "action-script", "run a script at every stage", arg="FILE", why="scripts are not run yet"
    ),
    _refused("stream", "images through criu-image-streamer", negatable=True, why="not there yet"),
)

TREE = (
    Option(
        "tree", "pid of the root of the tree", short="t", arg="PID", verbs=DUMP, parse=values.pid
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
        verbs=DUMP,
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
        "pidfile", "write the root's pid to FILE, which must not exist", arg="FILE", verbs=RESTORE
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
        dest="checksums",
        value=False,
        criu=False,
    ),
    Option("display-stats", "print the statistics at the end", negatable=True),
    Option(
        "cpu-cap",
        "what of the CPU is recorded or must match: fpu, ins, cpu, all, none, ^not "
        "(default fpu,ins; without a list: all)",
        arg="LIST",
        arg_optional=True,
        verbs=(*BOTH, "cpuinfo"),
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
        negatable=True,
    ),
    Option("file-locks", "dump and restore file locks", short="l", negatable=True),
    Option(
        "external",
        "what is outside the tree and stays there: file[MNT_ID:INODE], tty[RDEV:DEV]",
        arg="RESOURCE",
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
    _accepted("link-remap", "link deleted files back", negatable=True, why=_DELETED),
    _accepted(
        "ghost-limit",
        "largest deleted file to carry",
        arg="SIZE",
        parse=values.size,
        why=_DELETED,
    ),
    _accepted("ghost-fiemap", "find holes of deleted files", negatable=True, why=_DELETED),
    _accepted("force-irmap", "look up names of watched files", negatable=True, why=_NOTIFY),
    _accepted(
        "irmap-scan-path", "where to look for watched files", arg="DIR", repeat=True, why=_NOTIFY
    ),
    _refused(
        "file-validation",
        "how a file is compared: filesize or buildid",
        arg="METHOD",
        harmless=("filesize",),
        why="files are compared by size and mode (the method `filesize` is accepted), "
        "not by build id yet",
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
    _accepted("tcp-established", "established TCP connections", negatable=True, why=_TCP),
    _accepted("tcp-close", "restore TCP connections closed", negatable=True, why=_TCP),
    _accepted("skip-in-flight", "leave out half-open TCP connections", negatable=True, why=_TCP),
    _accepted(
        "network-lock",
        "how packets are held: iptables, nftables, skip",
        arg="METHOD",
        why=_TCP,
    ),
    _accepted(
        "ext-unix-sk",
        "Unix sockets with a peer outside",
        short="x",
        arg="INODES",
        arg_optional=True,
        why=_UNIX,
    ),
)

NAMESPACES = (
    _refused("root", "root of the restored mount namespace", short="r", arg="DIR", why=_NO_MOUNTS),
    _refused("ext-mount-map", "map of external mounts", short="M", arg="KEY:VALUE", why=_NO_MOUNTS),
    _accepted("enable-external-sharing", "external shared mounts", why=_MOUNTS),
    _accepted("enable-external-masters", "external slave mounts", why=_MOUNTS),
    _accepted("enable-fs", "mounts of these file systems", arg="LIST", why=_MOUNTS),
    _accepted("skip-mnt", "leave out a mount", arg="DIR", repeat=True, why=_MOUNTS),
    _accepted("mntns-compat-mode", "older way to restore mounts", negatable=True, why=_MOUNTS),
    _refused(
        "join-ns",
        "restore into a namespace that exists",
        short="J",
        arg="NS:WHERE",
        why="a tree is restored into ckpt's own namespaces only",
    ),
    _refused("empty-ns", "restore a namespace without content", arg="net", why=_NO_NET),
    _refused("veth-pair", "names of a veth pair", arg="IN=OUT", why=_NO_NET),
    _accepted(
        "weak-sysctls",
        "leave out sysctls that don't exist",
        negatable=True,
        why="sysctls belong to namespaces that are refused either way",
    ),
    _refused(
        "lsm-profile",
        "security profile of the tree",
        arg="TYPE:NAME",
        why="security profiles are not restored yet",
    ),
    _refused("lsm-mount-context", "security context of mounts", arg="CONTEXT", why=_NO_MOUNTS),
)

CGROUPS = (
    _refused(
        "manage-cgroups",
        "how cgroups are restored: ignore, none, props, soft, full, strict",
        arg="MODE",
        arg_optional=True,
        harmless=("ignore",),
        why="cgroups are not restored yet: the tree joins ckpt's own (the mode `ignore` is "
        "accepted)",
    ),
    _refused("cgroup-root", "other root of a controller", arg="[CTRL:]DIR", why=_NO_CGROUPS),
    _refused("cgroup-props", "which properties of cgroups", arg="YAML", why=_NO_CGROUPS),
    _refused("cgroup-props-file", "the same, from a file", arg="FILE", why=_NO_CGROUPS),
    _refused("cgroup-dump-controller", "dump this controller only", arg="NAME", why=_NO_CGROUPS),
    _refused("cgroup-yard", "where the cgroups are mounted", arg="DIR", why=_NO_CGROUPS),
)

MEMORY = (
    _refused("prev-images-dir", "images of the dump before", arg="DIR", why=_NO_INCREMENT),
    _refused("track-mem", "track what is written from now on", negatable=True, why=_NO_INCREMENT),
    _refused("pre-dump-mode", "splice or read", arg="MODE", why=_NO_INCREMENT),
    _refused(
        "auto-dedup",
        "punch replaced pages out of older images",
        negatable=True,
        why=_NO_INCREMENT,
    ),
    _refused("lazy-pages", "memory on demand", why=_NO_LAZY),
    _refused("page-server", "send pages to a server", negatable=True, why=_NO_SERVER),
    _refused("address", "address of the server", arg="ADDR", why=_NO_SERVER),
    _refused("port", "port of the server", arg="PORT", why=_NO_SERVER),
    _refused("ps-socket", "connected socket of the server", arg="FD", why=_NO_SERVER),
    _refused("daemon", "serve in the background", negatable=True, verbs=SERVERS, why=_NO_SERVER),
    _refused("tls", "encrypt the connection", negatable=True, why=_NO_TLS),
    _refused("tls-cacert", "trusted authority", arg="FILE", why=_NO_TLS),
    _refused("tls-cacrl", "revoked certificates", arg="FILE", why=_NO_TLS),
    _refused("tls-cert", "our certificate", arg="FILE", why=_NO_TLS),
    _refused("tls-key", "our key", arg="FILE", why=_NO_TLS),
    _refused("tls-no-cn-verify", "don't compare the server's name", why=_NO_TLS),
)

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
    _refused("ms", "an old name", verbs=CHECK, why="CRIU refuses it as well; see --all"),
)

GROUPS: dict[str, tuple[Option, ...]] = {
    "common": COMMON,
    "the tree": TREE,
    "files and terminals": FILES,
    "sockets": SOCKETS,
    "namespaces": NAMESPACES,
    "cgroups": CGROUPS,
    "memory and servers": MEMORY,
    "features": FEATURES,
}
OPTIONS: tuple[Option, ...] = tuple(option for group in GROUPS.values() for option in group)
