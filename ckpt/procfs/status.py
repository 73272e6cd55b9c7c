"""/proc/PID/status and /proc/PID/task/TID/status.

Source: proc_pid_status(5), proc_pid_status() in fs/proc/array.c and task_mem() beside it.

Ids are as the reader's namespaces show them. `ns_*` go from the reader's pid namespace inwards: the
last one is what the task itself sees. A zombie and a kernel thread have no mm: their memory fields
are None. Signal masks have signal N at bit N - 1, capabilities number N at bit N.

Not guaranteed: the fields of a running task are not of one instant.
"""

from __future__ import annotations

from typing import NamedTuple

from ckpt.procfs.parse import dec, fail, hexa, keyed, mask, octal, text
from ckpt.record import record

FILE = "status"


class Ids(NamedTuple):
    """Real, effective, saved and file system uid or gid."""

    real: int
    effective: int
    saved: int
    fs: int


@record(frozen=True)
class Capabilities:
    """The five sets of a thread."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int


@record(frozen=True)
class Signals:
    """Masks of a thread; `shared` and the dispositions belong to the whole process."""

    pending: int
    shared: int
    blocked: int
    ignored: int
    caught: int


@record(frozen=True)
class Status:
    """What a dump asks of one task; None where this kernel, or a task without mm, has no line."""

    name: str
    umask: int | None
    state: str
    tgid: int
    ngid: int
    pid: int
    ppid: int
    tracer_pid: int
    uid: Ids
    gid: Ids
    fd_size: int
    groups: tuple[int, ...]
    ns_tgid: tuple[int, ...]
    ns_pid: tuple[int, ...]
    ns_pgid: tuple[int, ...]
    ns_sid: tuple[int, ...]
    kernel_thread: bool
    nr_threads: int
    sigq: tuple[int, int]
    signals: Signals
    capabilities: Capabilities
    no_new_privs: int
    seccomp: int
    nr_seccomp_filters: int | None
    cpus_allowed: int
    mems_allowed: int
    core_dumping: bool | None
    thp_enabled: bool | None
    untag_mask: int | None
    vm_size: int | None
    vm_locked: int | None
    vm_pinned: int | None
    vm_rss: int | None
    store_bypass: str = ""
    indirect_branch: str = ""
    voluntary_switches: int = 0

    @property
    def zombie(self) -> bool:
        """Dead and not reaped: Z, or X in the moment of reaping."""
        return self.state in "ZX"

    @property
    def stopped(self) -> bool:
        """Stopped by a signal. A tracing stop is `t` and no property of the task itself."""
        return self.state == "T"

    @property
    def has_mm(self) -> bool:
        return self.vm_size is not None


class _Fields:
    """The lines of one status by key, with the errors that name them."""

    def __init__(self, data: bytes) -> None:
        self._found = keyed(data, FILE)

    def raw(self, key: bytes) -> bytes:
        if key not in self._found:
            fail(FILE, key, "no such line")
        return self._found[key]

    def has(self, key: bytes) -> bool:
        return key in self._found

    def dec(self, key: bytes) -> int:
        token = self.raw(key)
        return dec(token, FILE, key + b":" + token)

    def hexa(self, key: bytes) -> int:
        token = self.raw(key)
        return hexa(token, FILE, key + b":" + token)

    def mask(self, key: bytes) -> int:
        token = self.raw(key)
        return mask(token, FILE, key + b":" + token)

    def decs(self, key: bytes) -> tuple[int, ...]:
        token = self.raw(key)
        return tuple(dec(part, FILE, key + b":" + token) for part in token.split())

    def opt_dec(self, key: bytes) -> int | None:
        return self.dec(key) if key in self._found else None

    def opt_flag(self, key: bytes) -> bool | None:
        return bool(self.dec(key)) if key in self._found else None

    def opt_size(self, key: bytes) -> int | None:
        """A size that is printed in kB, in bytes."""
        if key not in self._found:
            return None
        number, space, unit = self._found[key].partition(b" ")
        if unit != b"kB" or not space:
            fail(FILE, key + b":" + self._found[key], "not a size in kB")
        return dec(number, FILE, key + b":" + number) << 10

    def opt_text(self, key: bytes) -> str:
        """Empty where there is no such line."""
        return text(self._found.get(key, b""))

    def ids(self, key: bytes) -> Ids:
        found = self.decs(key)
        if len(found) != 4 or max(found) >= 1 << 32:
            fail(FILE, key + b":" + self.raw(key), "not four ids")
        return Ids(*found)

    def namespaced(self, key: bytes, fallback: int) -> tuple[int, ...]:
        """Kernels without pid namespaces, or before 4.1, print no such line."""
        return (self.decs(key) if key in self._found else ()) or (fallback,)


def parse_status(data: bytes) -> Status:
    """A whole status file; ProcfsError where a line that every kernel has is missing or odd."""
    f = _Fields(data)
    pid, tgid = f.dec(b"Pid"), f.dec(b"Tgid")
    umask = f.raw(b"Umask") if f.has(b"Umask") else None
    return Status(
        name=parse_name(f.raw(b"Name")),
        umask=None if umask is None else octal(umask, FILE, b"Umask:" + umask),
        state=text(f.raw(b"State")[:1]) or fail(FILE, b"State:", "empty"),
        tgid=tgid,
        ngid=f.opt_dec(b"Ngid") or 0,
        pid=pid,
        ppid=f.dec(b"PPid"),
        tracer_pid=f.dec(b"TracerPid"),
        uid=f.ids(b"Uid"),
        gid=f.ids(b"Gid"),
        fd_size=f.dec(b"FDSize"),
        groups=f.decs(b"Groups"),
        ns_tgid=f.namespaced(b"NStgid", tgid),
        ns_pid=f.namespaced(b"NSpid", pid),
        ns_pgid=f.decs(b"NSpgid") if f.has(b"NSpgid") else (),
        ns_sid=f.decs(b"NSsid") if f.has(b"NSsid") else (),
        kernel_thread=bool(f.opt_dec(b"Kthread")),
        nr_threads=f.dec(b"Threads"),
        sigq=_sigq(f.raw(b"SigQ")),
        signals=Signals(
            *(f.hexa(key) for key in (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt"))
        ),
        capabilities=Capabilities(
            *(f.hexa(key) for key in (b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb"))
        ),
        no_new_privs=f.dec(b"NoNewPrivs"),
        seccomp=f.opt_dec(b"Seccomp") or 0,
        nr_seccomp_filters=f.opt_dec(b"Seccomp_filters"),
        cpus_allowed=f.mask(b"Cpus_allowed"),
        mems_allowed=f.mask(b"Mems_allowed") if f.has(b"Mems_allowed") else 1,
        core_dumping=f.opt_flag(b"CoreDumping"),
        thp_enabled=f.opt_flag(b"THP_enabled"),
        untag_mask=f.hexa(b"untag_mask") if f.has(b"untag_mask") else None,
        vm_size=f.opt_size(b"VmSize"),
        vm_locked=f.opt_size(b"VmLck"),
        vm_pinned=f.opt_size(b"VmPin"),
        vm_rss=f.opt_size(b"VmRSS"),
        store_bypass=f.opt_text(b"Speculation_Store_Bypass"),
        indirect_branch=f.opt_text(b"SpeculationIndirectBranch"),
        voluntary_switches=f.opt_dec(b"voluntary_ctxt_switches") or 0,
    )


def parse_name(token: bytes) -> str:
    """The comm. Here alone the kernel writes a newline as \\n and a backslash as two of them."""
    return text(token.replace(b"\\\\", b"\0").replace(b"\\n", b"\n").replace(b"\0", b"\\"))


def _sigq(token: bytes) -> tuple[int, int]:
    used, slash, limit = token.partition(b"/")
    line = b"SigQ:" + token
    return dec(used, FILE, line), dec(limit if slash else b"", FILE, line)
