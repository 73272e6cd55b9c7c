"""The options of namespaces. A part of ckpt.cli.options."""

from __future__ import annotations

from functools import partial

from ckpt.cli import values
from ckpt.cli.option import Option, Status

_accepted = partial(Option, status=Status.ACCEPTED)
_refused = partial(Option, status=Status.REFUSED)

_MOUNTS = "a foreign mount namespace is refused either way"
_NO_MOUNTS = "mount namespaces are not restored yet"
_NO_NET = "network namespaces are not restored yet"

NAMESPACES = (
    _refused("root", "root of the restored mount namespace", short="r", arg="DIR", why=_NO_MOUNTS),
    _refused("ext-mount-map", "map of external mounts", short="M", arg="KEY:VALUE", why=_NO_MOUNTS),
    _accepted("enable-external-sharing", "external shared mounts", why=_MOUNTS),
    _accepted("enable-external-masters", "external slave mounts", why=_MOUNTS),
    _accepted("enable-fs", "mounts of these file systems", arg="LIST", why=_MOUNTS),
    _accepted("skip-mnt", "leave out a mount", arg="DIR", repeat=True, why=_MOUNTS),
    _accepted("mntns-compat-mode", "older way to restore mounts", negatable=True, why=_MOUNTS),
    Option(
        "join-ns",
        "restore into a net, ipc or uts namespace that exists, of a process or at a path",
        short="J",
        arg="NS:PID|FILE",
        verbs=("restore",),
        parse=values.join_ns,
        repeat=True,
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
