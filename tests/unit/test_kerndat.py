"""Probes answer and leave nothing behind; the CPU as the image has it; the XSAVE area."""

from __future__ import annotations

import errno
import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckpt.cli import check as check_verb
from ckpt.cli import cpuinfo as cpuinfo_verb
from ckpt.cli.parser import Args
from ckpt.errors import ImageError, KernelError, UsageError
from ckpt.kerndat import cpu, cpufeature, registry, xsave
from ckpt.kerndat.probe import Finding, Need, Probe, State, missing, ok, probe
from ckpt.kerndat.trial import idle_child, in_child, stopped_child
from ckpt.procfs.reader import ProcDir
from ckpt.record import replace
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable

CRIU_NAMES = """mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock
    seccomp_suspend seccomp_filters loginuid cgroupns autofs tcp_half_closed compat_cr uffd
    uffd-noncoop can_map_vdso sk_ns sk_unix_file net_diag_raw nsid link_nsid kcmp_epoll timens
    external_net_ns clone3_set_tid newifindex nftables has_ipt_legacy pidfd_store ns_pid
    apparmor_stacking network_lock_nftables sockopt_buf_lock memfd_hugetlb move_mount_set_group
    openat2 get_rseq_conf ptrace_get_rseq_conf ipv6_freebind pagemap_scan overlayfs_maps
    membarrier_get_registrations kcmp"""

# Not SigQ, which counts what all processes of a user have queued.
MASKS = (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt", b"CapPrm", b"CapEff", b"CapBnd")


def state_of_ourselves() -> dict[str, object]:
    """What a probe might change: descriptors, children, namespaces, mappings of trials, limits."""
    with ProcDir(os.getpid()) as proc:
        return {
            "fds": [fd for fd in proc.numbers("fd") if fd != proc.dirfd],
            "children": proc.read(f"task/{os.getpid()}/children"),
            "namespaces": sorted(proc.readlink(f"ns/{name}") for name in proc.names("ns")),
            "loginuid": proc.read("loginuid"),
            "timens": proc.read("timens_offsets"),
            "mounts": b" ckpt " in proc.read("mountinfo"),
            "masks": [line for line in proc.read("status").splitlines() if line[:6] in MASKS],
        }


@pytest.mark.parametrize("one", registry.probes(), ids=lambda one: one.name)
def test_probe_answers_and_leaves_nothing_behind(one: Probe) -> None:
    one.run()
    before = state_of_ourselves()
    found = one.run()
    assert isinstance(found, Finding)
    assert found.detail or found.state is not State.MISSING
    assert one.run().state is found.state
    assert state_of_ourselves() == before


def test_probes_say_what_for() -> None:
    for one in registry.probes():
        assert one.purpose
        assert one.loss
    names = [name for one in registry.probes() for name in one.names]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", CRIU_NAMES.split())
def test_names_of_criu_are_known(name: str) -> None:
    assert registry.find(name).run().state in State


def test_installed_criu_has_no_name_that_we_lack() -> None:
    import shutil
    import subprocess

    require(shutil.which("criu"), "criu is not installed")
    text = subprocess.run(
        ["criu", "check", "--help"], capture_output=True, text=True, check=False
    ).stdout
    names = text.partition("one of:")[2].partition("\n\n")[0].replace(",", " ").split()
    assert len(names) > 20
    assert [name for name in names if name not in registry.by_name()] == []


def test_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="mem_dirty_track"):
        registry.find("mem_dirty_trakc")


def test_tracking_needs_no_soft_dirty() -> None:
    names = registry.by_name()
    wp = names["uffd_wp"].run().supported or names["uffd_wp_async"].run().supported
    assert names["mem_dirty_track"].run().supported == wp


def test_a_probe_that_fails_is_a_no() -> None:
    @probe("x", Need.HOST, "a", "b")
    def denied() -> None:
        raise OSError(errno.EPERM, "denied")

    @probe("y", Need.HOST, "a", "b")
    def odd() -> None:
        raise KernelError("odd")

    assert denied.run() == missing("denied")
    assert odd.run() == missing("odd")


def test_trials_in_children() -> None:
    in_child(lambda: None)

    def fails() -> None:
        raise OSError(errno.ENOTTY, "")

    def is_odd() -> None:
        raise ValueError

    with pytest.raises(OSError, match=os.strerror(errno.ENOTTY)):
        in_child(fails)
    with pytest.raises(OSError, match="trial failed"):
        in_child(is_odd)
    with pytest.raises(OSError, match="SIGKILL"):
        in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with idle_child() as pid, ProcDir(pid) as proc:
        assert proc.alive()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    with stopped_child() as pid:
        assert Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "t"


# ---- ckpt check


def args(verb: str = "check", *operands: str, **values: object) -> Args:
    given = {"feature": None, "json": False, "extra": False, "experimental": False, "all": False}
    return Args(verb, operands, {**given, "cpu_cap": None, "tree": None, **values})


@pytest.fixture
def two_probes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Need], None]:
    def install(need_of_the_missing: Need) -> None:
        there = Probe("there", Need.HOST, "this", "that", lambda: ok("fine"), ("alias",))
        gone = Probe("gone", need_of_the_missing, "this", "all hope", lambda: missing("absent"))
        monkeypatch.setattr(check_verb, "probes", lambda: (there, gone))
        monkeypatch.setattr(check_verb, "find", {"there": there, "gone": gone}.__getitem__)

    return install


@pytest.mark.parametrize(
    ("need", "option", "code"),
    [
        (Need.HOST, "", 1),
        (Need.TREE, "", 0),
        (Need.TREE, "extra", 1),
        (Need.LATER, "extra", 0),
        (Need.LATER, "experimental", 1),
        (Need.BETTER, "all", 1),
    ],
)
def test_check_counts_what_it_is_asked_to(
    need: Need,
    option: str,
    code: int,
    two_probes: Callable[[Need], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    two_probes(need)
    asked = args()
    asked.values[option] = True
    assert check_verb.run(asked) == code
    out = capsys.readouterr().out
    assert "  ok       there" in out
    assert "absent; without it: all hope" in out
    assert ("Does not look good" in out) == (need is Need.HOST)


def test_check_as_json(
    two_probes: Callable[[Need], None], capsys: pytest.CaptureFixture[str]
) -> None:
    two_probes(Need.TREE)
    assert check_verb.run(args(json=True)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert [f["state"] for f in found["features"]] == ["ok", "missing"]
    assert found["features"][0]["names"] == ["there", "alias"]
    assert found["features"][1]["lost_without"] == "all hope"


@pytest.mark.parametrize(("name", "code", "text"), [("there", 0, "is"), ("gone", 1, "is not")])
def test_check_one_feature(
    name: str,
    code: int,
    text: str,
    two_probes: Callable[[Need], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    two_probes(Need.TREE)
    assert check_verb.run(args(feature=name)) == code
    assert capsys.readouterr().out.startswith(f"{name} {text} supported")


def test_check_lists_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_verb.run(args(feature="list")) == 0
    assert capsys.readouterr().out.split() == sorted(registry.by_name())
    with pytest.raises(UsageError):
        check_verb.run(args("check", "word"))


# ---- the XSAVE area and the CPU

LEAVES = {
    (0, 0): (0xD, 0x756E6547, 0x6C65746E, 0x49656E69),
    (0x8000_0000, 0): (0x8000_0004, 0, 0, 0),
    (1, 0): (0x000A_0671, 0, 1 << 27 | 1 << 26, 1 << 24 | 1),
    (7, 0): (0, 1 << 5 | 1 << 16, 0, 0),
    (0xD, 0): (0x2E7, 2696, 2696, 0),
    (0xD, 2): (256, 576, 0, 0),
    (0xD, 5): (64, 1088, 0, 0),
    (0xD, 6): (512, 1152, 0, 0),
    (0xD, 7): (1024, 1664, 0, 0),
    (0xD, 9): (8, 2688, 0, 0),
    (0xD, 8): (128, 0, 1, 0),
    (0x8000_0002, 0): (0x20202020, 0x65545820, 0x00007473, 0),
}


def ask(leaf: int, subleaf: int) -> xsave.Leaf:
    return LEAVES.get((leaf, subleaf), (0, 0, 0, 0))


def test_xsave_layout_from_leaves() -> None:
    area = xsave.area_of(0x3E7, ask)
    assert area.size == 2696
    assert area.layout[9] == (2688, 8)
    assert set(area.layout) == {0, 1, 2, 5, 6, 7, 9}  # 8 is supervisor state


@pytest.mark.parametrize("bad", [(256, 0, 0, 0), (256, 2600, 0, 0), (0, 576, 0, 0)])
def test_xsave_layout_that_contradicts_itself(bad: xsave.Leaf) -> None:
    with pytest.raises(KernelError, match="avx"):
        xsave.area_of(0x7, lambda leaf, sub: bad if (leaf, sub) == (0xD, 2) else ask(leaf, sub))
    with pytest.raises(KernelError, match="no XSAVE"):
        xsave.area_of(0, ask)


def test_xsave_area_of_this_cpu() -> None:
    area = xsave.xsave_area()
    spans = sorted(area.layout.values())
    assert all(a + n <= b for (a, n), (b, _) in pairwise(spans))
    assert spans[-1][0] + spans[-1][1] <= area.size <= area.size_max
    assert xsave.xsave_layout() == area.layout


def test_cpu_from_leaves() -> None:
    found = cpu.describe(ask, 0x3E7)
    assert (found.vendor, found.family, found.model, found.stepping) == (cpu.INTEL, 6, 0xA7, 1)
    assert found.model_id == "XTest"
    assert found.has(cpufeature.OSXSAVE)
    assert found.words[9] == 1 << 5 | 1 << 16
    assert found.words[3] == 1 << 16 | 1 << 20 | 1 << 25


def test_cpu_agrees_with_the_kernel() -> None:
    """The names of /proc/cpuinfo are what the kernel allows; CPUID may know more, not less."""
    text = Path("/proc/cpuinfo").read_text()
    shown = set(text.partition("\nflags\t\t: ")[2].partition("\n")[0].split())
    here = cpu.this_cpu()
    for word, bits in cpufeature.INSTRUCTIONS.items():
        for bit, name in bits.items():
            if name in shown:
                assert here.has((word, bit)), name
    assert f"cpu family\t: {here.family}\n" in text
    assert here.model_id.split() == text.partition("model name\t: ")[2].split("\n")[0].split()


def test_cpu_goes_through_the_image() -> None:
    here = cpu.this_cpu()
    assert cpu.from_message(cpu.to_message(here)) == here
    old = cpu.to_message(here)
    x86 = old.x86_entry[0]
    x86.capability_ver = 1
    del x86.capability[12:]
    read = cpu.from_message(old)
    assert read.words[:12] == here.words[:12]
    assert read.words[12:] == (None,) * 7
    assert cpu.mismatches(read, here, {"fpu", "ins", "cpu"}) == []


@pytest.mark.parametrize("damage", ["version", "words", "vendor", "none", "two"])
def test_damaged_cpu_image(damage: str) -> None:
    message = cpu.to_message(cpu.describe(ask, 0x3E7))
    match damage:
        case "version":
            message.x86_entry[0].capability_ver = 3
        case "words":
            message.x86_entry[0].capability.append(0)
        case "vendor":
            message.x86_entry[0].ClearField("vendor_id")
        case "none":
            del message.x86_entry[:]
        case "two":
            message.x86_entry.append(message.x86_entry[0])
    with pytest.raises(ImageError, match=r"cpuinfo\.img"):
        cpu.from_message(message)


def test_mismatches_by_question() -> None:
    rich = cpu.describe(ask, 0x3E7)
    words = list(rich.words)
    words[9] = 1 << 16  # no avx2
    poor = replace(rich, words=tuple(words), xcr0=0x2E3)
    assert cpu.mismatches(poor, rich, {"fpu", "ins"}) == []
    assert cpu.mismatches(rich, poor, {"ins"}) == ["instructions of avx2 are missing here"]
    assert cpu.mismatches(rich, poor, {"fpu"}) == ["FPU state components 0x4 are missing here"]
    assert cpu.mismatches(poor, rich, {"cpu"}) == ["capabilities differ: avx2"]
    assert cpu.mismatches(rich, poor, set()) == []
    words = list(rich.words)
    words[4] = 0
    assert "xsave" in cpu.mismatches(rich, replace(rich, words=tuple(words)), {"fpu"})[0]


def test_cpuinfo_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cpuinfo_verb.run(args("cpuinfo", "dump", images_dir=tmp_path)) == 0
    assert (tmp_path / "cpuinfo.img").stat().st_mode & 0o777 == 0o600
    assert cpuinfo_verb.run(args("cpuinfo", "check", images_dir=tmp_path)) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(UsageError):
        cpuinfo_verb.run(args("cpuinfo", "both", images_dir=tmp_path))


def test_cpuinfo_check_of_a_richer_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ckpt.images.directory import write_image

    here = cpu.this_cpu()
    words = [*here.words]
    words[6] = (words[6] or 0) | 1 << 16  # fma4, which died out
    message = cpu.to_message(replace(here, words=tuple(words)))
    write_image(tmp_path, "cpuinfo", [message])
    code = cpuinfo_verb.run(args("cpuinfo", "check", images_dir=tmp_path))
    assert (code, capsys.readouterr().out) == (1, "instructions of fma4 are missing here\n")
    none = frozenset[str]()
    assert cpuinfo_verb.run(args("cpuinfo", "check", images_dir=tmp_path, cpu_cap=none)) == 0


def test_cpuinfo_check_without_an_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        cpuinfo_verb.run(args("cpuinfo", "check", images_dir=tmp_path))
    (tmp_path / "cpuinfo.img").write_bytes(b"\x19\x43\x56\x54\x13\x40\x40\x61")
    with pytest.raises(ImageError):
        cpuinfo_verb.run(args("cpuinfo", "check", images_dir=tmp_path))
