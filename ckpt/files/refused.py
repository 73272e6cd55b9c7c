"""What is not restored yet, by name, with what would help. Each is one line of a table.

A descriptor that no kind claims is named here by its link (anonymous inodes, sockets, namespaces)
or by its device number; one that a kind claims by its path may still be refused for the place that
the path leads to. What nothing here knows is refused all the same, by its bare type.

Source: proc_pid_fd(5); names of anonymous inodes from anon_inode_getfd() calls in the kernel;
magic numbers from include/uapi/linux/magic.h; Documentation/admin-guide/devices.txt.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from ckpt.files.descriptor import proto_name
from ckpt.files.kind import Obstacle
from ckpt.files.procfile import tells_of_task

if TYPE_CHECKING:
    from ckpt.files.descriptor import Descriptor

Lost = Callable[["Descriptor"], "Obstacle | None"]

_CLOSE = "close it before the dump"
_EXTERNAL = "--external 'file[{mnt_id:x}:{ino:x}]' and, at restore, --inherit-fd"
_NSFS = 0x6E736673

_ANONYMOUS = {
    "[userfaultfd]": ("a userfaultfd", "ckpt tracks memory with one itself, only one fits"),
    "[perf_event]": ("a perf event", "end the measurement first"),
    "bpf-map": ("a BPF map", ""),
    "bpf-prog": ("a BPF program", ""),
    "bpf_link": ("a BPF link", ""),
    "bpf-link": ("a BPF link", ""),
    "btf": ("BPF type information", ""),
    "kvm-vm": ("a virtual machine", "dump the guest with its own tools"),
    "kvm-vcpu": ("a virtual CPU", "dump the guest with its own tools"),
    "seccomp notify": ("a seccomp listener", ""),
    "[landlock-ruleset]": ("a Landlock rule set", ""),
    "[fscontext]": ("a mount that is being made", ""),
    "sync_file": ("a fence of the graphics card", ""),
    "[secretmem]": ("secret memory", ""),
}
_LINKS = {
    "pidfd": "a pidfd",
    "mnt": "a mount namespace",
    "net": "a network namespace",
    "pid": "a pid namespace",
    "pid_for_children": "a pid namespace",
    "user": "a user namespace",
    "uts": "a UTS namespace",
    "ipc": "an IPC namespace",
    "cgroup": "a cgroup namespace",
    "time": "a time namespace",
    "time_for_children": "a time namespace",
    "/memfd": "a memfd of a kind that is unknown",
    "/secretmem": "secret memory",
    "/dmabuf": "a DMA buffer",
    "/anon_hugepage": "a segment of huge pages",
    "/SYSV": "a System V shared memory segment",
}
_SOCKETS = {
    "MPTCP": "an MPTCP socket",
    "MPTCPv6": "an MPTCP socket",
    "AF_VSOCK": "a vsock socket",
    "ALG": "a socket of the kernel's crypto",
    "XDP": "an XDP socket",
}
_DEVICES = {
    (1, 1): "the memory of the machine",
    (1, 4): "I/O ports",
    (1, 11): "the kernel's log",
    (5, 2): "the master of a pseudo terminal",
    (10, 200): "a TUN or TAP interface",
    (10, 229): "a FUSE connection",
    (10, 232): "KVM",
    (10, 126): "a userfaultfd maker",
}
_MAJORS = {
    4: "a console or serial line",
    13: "an input device",
    29: "a framebuffer",
    116: "a sound device",
    195: "an NVIDIA device",
    226: "a graphics card",
}
_FILE_SYSTEMS = {
    _NSFS: "a namespace",
    0x19800202: "a POSIX message queue",
    0x74726163: "a file of tracefs, which is consumed by reading",
    0x50494446: "a pidfd",
}


def unclaimed_obstacle(d: Descriptor) -> Obstacle:
    """Why a descriptor that no kind claims is refused."""
    if d.format == stat.S_IFSOCK:
        return _not_yet(_socket(d))
    if d.format == stat.S_IFCHR:
        major, minor = os.major(d.rdev), os.minor(d.rdev)
        name = _DEVICES.get((major, minor)) or _MAJORS.get(major) or "a device"
        return _not_yet(f"{name} ({major}:{minor})")
    if d.format == stat.S_IFBLK:
        return _not_yet("a block device")
    if d.link.startswith("anon_inode:"):
        name = d.link.removeprefix("anon_inode:")
        what, hint = _ANONYMOUS.get(name) or _ANONYMOUS.get(f"[{name}]") or (f"{name}", "")
        return _not_yet(what, hint)
    return _not_yet(_by_link(d) or f"a descriptor of type {d.format:07o}")


def path_obstacle(d: Descriptor, lost: Lost | None = None) -> Obstacle | None:
    """Why a file can't be opened by its path again; None if it can. `lost` says what is in the way
    of one that no name leads to."""
    if not d.link.startswith("/"):
        if d.link.startswith("(unreachable)"):
            return Obstacle("it lies outside of the root directory of ckpt", _external(d))
        return _not_yet(_by_link(d) or "something without a path")
    # Before its path: that of a message queue leads nowhere, as that of a removed file.
    if d.fs_type in _FILE_SYSTEMS:
        return _not_yet(_FILE_SYSTEMS[d.fs_type])
    if d.deleted:
        if found := _deleted(d) or (lost or refuse_lost)(d):
            return found
    elif tells_of_task(d):
        return Obstacle("a /proc file of a process is not restored as this yet")
    try:
        d.link.encode()
    except UnicodeEncodeError:
        return Obstacle("its path is not UTF-8, which the image format wants", _external(d))
    return None


def _deleted(d: Descriptor) -> Obstacle | None:
    what = _by_link(d)
    return _not_yet(what) if what else None


def refuse_lost(d: Descriptor) -> Obstacle:
    """What to say of a file that no name leads to and that is not carried in the images."""
    if d.nr_names:
        why = "its path leads to it no more (renamed, replaced, or hidden by a mount)"
        return Obstacle(why, _external(d))
    return Obstacle("the file was removed; such files are not restored yet", _external(d))


def _by_link(d: Descriptor) -> str:
    head = d.link.partition(":")[0]
    if not d.link.startswith("/"):
        return _LINKS.get(head, "")
    if d.named:
        return ""
    return next((text for start, text in _LINKS.items() if d.link.startswith(start)), "")


def _socket(d: Descriptor) -> str:
    known = proto_name(d).decode("ascii", "replace")
    return _SOCKETS.get(known, f"a {known} socket" if known else "a socket")


def _external(d: Descriptor) -> str:
    return _EXTERNAL.format(mnt_id=d.mnt_id, ino=d.ino)


def _not_yet(what: str, hint: str = "") -> Obstacle:
    return Obstacle(f"{what} is not restored yet", hint or _CLOSE)
