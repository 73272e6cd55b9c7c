"""The options of control groups, and what the orchestrators get of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.cli import values
from ckpt.cli.features import CHECK
from ckpt.cli.increment import DUMPS, SNAPSHOT
from ckpt.cli.option import Option

if TYPE_CHECKING:
    from ckpt.cli.parser import Args
    from ckpt.ns.cgroups import GroupsAsked, Root, Spec

MODES = ("ignore", "none", "props", "soft", "full", "strict")


def mode(text: str) -> str:
    if text and text not in MODES:
        raise ValueError(f"a mode is one of {', '.join(MODES)}")
    return text or "soft"


def root(text: str) -> Root:
    """`[CTRL:]DIR`"""
    from ckpt.ns.cgroups import Root

    controller, _, path = ("", "", text) if text.startswith("/") else text.rpartition(":/")
    path = path if text.startswith("/") else f"/{path}"
    named = text.startswith("/") or ":/" in text
    if not named or any(part in (".", "..") for part in path.split("/")):
        raise ValueError("the form is /DIR or CONTROLLER:/DIR")
    parts = [part for part in path.split("/") if part]
    return Root(controller if not text.startswith("/") else None, "/" + "/".join(parts))


def spec(text: str) -> Spec:
    from ckpt.ns.cgroup_props import parse_spec

    return parse_spec(text)


def spec_of_file(name: str) -> Spec:
    try:
        return spec(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"it can't be read: {error.strerror}") from error


JUDGED = (*DUMPS, *CHECK, *SNAPSHOT, "migrate")
ALL = (*JUDGED, "restore")

CGROUPS = (
    Option(
        "manage-cgroups",
        "what is done about cgroups: ignore; none, props: they must be there; soft (default), "
        "full: missing ones are made; strict: all are made; props, full, strict: properties "
        "are set in any case",
        arg="MODE",
        arg_optional=True,
        verbs=ALL,
        parse=mode,
        initial="soft",
    ),
    Option(
        "cgroup-root",
        "dump: from which cgroup on all is recorded; restore: what stands in its place",
        arg="[CTRL:]DIR",
        verbs=ALL,
        parse=root,
        repeat=True,
    ),
    Option(
        "cgroup-props",
        "which properties of cgroups are recorded",
        arg="YAML",
        verbs=JUDGED,
        parse=spec,
        repeat=True,
    ),
    Option(
        "cgroup-props-file",
        "the same, from a file",
        arg="FILE",
        verbs=JUDGED,
        parse=spec_of_file,
        repeat=True,
    ),
    Option(
        "cgroup-dump-controller",
        "record the cgroups of this controller only",
        arg="NAME",
        verbs=JUDGED,
        repeat=True,
    ),
    Option(
        "cgroup-yard",
        "folder with one directory for each cgroup hierarchy, used in place of the mounts",
        arg="DIR",
        verbs=ALL,
        parse=values.folder,
    ),
)


def dump_cgroups(args: Args) -> GroupsAsked:
    from ckpt.ns.cgroups import GroupsAsked

    return GroupsAsked(
        mode=args.manage_cgroups,
        roots=args.cgroup_root,
        specs=(*args.cgroup_props, *args.cgroup_props_file),
        controllers=args.cgroup_dump_controller,
        yard=args.cgroup_yard or "",
    )


def restore_cgroups(args: Args) -> GroupsAsked:
    from ckpt.ns.cgroups import GroupsAsked

    return GroupsAsked(
        mode=args.manage_cgroups, roots=args.cgroup_root, yard=args.cgroup_yard or ""
    )
