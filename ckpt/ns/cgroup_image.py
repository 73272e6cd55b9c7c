"""cgroup.img, read and checked, as sets of groups and as the groups themselves. Pure.

Everything in it becomes part of a path below a cgroup mount, so every name is checked here: a path
is absolute and has no part that leads upwards, and a property is one that a restore may write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images.text import get_text
from ckpt.ns.cgroup_props import is_plain
from ckpt.ns.cgroups import below, is_below, root_for
from ckpt.record import field, record, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.images.reader import ImageSet
    from ckpt.ns.cgroups import Root

_NAME = "cgroup.img"


@record(frozen=True)
class Perms:
    mode: int
    uid: int
    gid: int


@record(frozen=True)
class Group:
    """One group. `top`: the highest recorded one above it, or itself; `props` in order of the
    image."""

    hierarchy: str
    path: str
    top: str
    perms: Perms | None
    props: tuple[tuple[str, str, Perms | None], ...]


@record(frozen=True)
class GroupsImage:
    """`sets`: paths by hierarchy; `own`: the set that ckpt itself was in; `groups`: each after the
    one above it."""

    own: int = 0
    sets: dict[int, dict[str, str]] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()

    def moved(self, roots: Sequence[Root]) -> GroupsImage:
        """With the highest groups replaced by those that `--cgroup-root` names."""
        if not roots:
            return self
        tops = {(g.hierarchy, g.top) for g in self.groups}

        def moved(name: str, path: str) -> str:
            new = root_for(roots, name)
            for hierarchy, top in tops:
                if new and hierarchy == name and is_below(path, top):
                    return below(new, path[len(top) :].lstrip("/"))
            return path

        sets = {
            number: {name: moved(name, path) for name, path in members.items()}
            for number, members in self.sets.items()
        }
        groups = (
            replace(g, path=moved(g.hierarchy, g.path), top=moved(g.hierarchy, g.top))
            for g in self.groups
        )
        return GroupsImage(self.own, sets, tuple(groups))


def read_groups(images: ImageSet) -> GroupsImage:
    """Raises ImageError."""
    inventory = images.read_one("inventory")
    entries = images.read("cgroup") if images.exists("cgroup") else []
    if not entries:
        return GroupsImage(inventory.root_cg_set)
    sets: dict[int, dict[str, str]] = {}
    for entry in entries[0].sets:
        if entry.id in sets:
            raise _wrong(f"two sets {entry.id}")
        sets[entry.id] = {m.name: _checked(get_text(m, "path")) for m in entry.ctls}
        if any(m.HasField("cgns_prefix") and m.cgns_prefix for m in entry.ctls):
            raise ImageError(
                "cgroup namespaces are not restored yet",
                resource=_NAME,
                hint="--manage-cgroups=ignore",
            )
    groups: list[Group] = []
    for controller in entries[0].controllers:
        name = ",".join(controller.cnames)
        for top in controller.dirs:
            path = _checked("/" + get_text(top, "dir_name").lstrip("/"))
            groups.extend(_groups(name, path, path, top))
    return GroupsImage(inventory.root_cg_set, sets, tuple(groups))


def _groups(name: str, path: str, top: str, entry: Any) -> Iterator[Group]:
    props = []
    for prop in entry.properties:
        if not is_plain(prop.name):
            raise _wrong(f"the property {prop.name!r} of {path} is none that can be restored")
        props.append((prop.name, prop.value, _perms(prop)))
    perms = None
    if entry.HasField("dir_perms"):
        p = entry.dir_perms
        perms = Perms(p.mode & 0o7777, p.uid, p.gid)
    if path != "/":  # the root of a hierarchy is the machine's
        yield Group(name, path, top, perms, tuple(props))
    for child in entry.children:
        inner = _checked(f"{path.rstrip('/')}/{get_text(child, 'dir_name')}")
        yield from _groups(name, inner, top, child)


def _perms(prop: Any) -> Perms | None:
    if not prop.HasField("perms"):
        return None
    return Perms(prop.perms.mode & 0o7777, prop.perms.uid, prop.perms.gid)


def _checked(path: str) -> str:
    parts: Iterable[str] = path[1:].split("/") if path != "/" else ()
    if not path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise _wrong(f"{path!r} is no path of a group")
    return path


def _wrong(why: str) -> ImageError:
    return ImageError("makes no sense", resource=_NAME, why=why)
