"""What is rendered in the kernel's form parses to what it was; what is damaged raises one error."""

from __future__ import annotations

import os
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from ckpt.procfs import auxv, cgroup, fdinfo, limits, locks, maps, mountinfo, smaps, stat, status
from ckpt.procfs.parse import ProcfsError
from ckpt.procfs.reader import ProcDir

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
PIDS = st.integers(0, 2**22)
# Text that can stand in a path: any byte but NUL, as the file system has it.
NAMES = st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"")).map(os.fsdecode)
PATHS = NAMES.map(lambda name: "/" + name)


@st.composite
def mappings(draw: st.DrawFn) -> list[maps.Mapping]:
    pages = sorted(draw(st.sets(st.integers(0, 2**52 - 1), max_size=12)))
    found = []
    for start, end in zip(pages[::2], pages[1::2], strict=False):
        perms = "".join(draw(st.sampled_from(pair)) for pair in ("r-", "w-", "x-", "ps"))
        path = draw(st.sampled_from(["", "[heap]", "[anon: a b]"]) | PATHS)
        if "\\012" in path:
            path = "/ambiguous"
        device = (draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
        found.append(
            maps.Mapping(start << 12, end << 12, perms, draw(U64) & ~4095, device, draw(U64), path)
        )
    return found


def render_mapping(m: maps.Mapping) -> bytes:
    major, minor = m.device
    head = f"{m.start:08x}-{m.end:08x} {m.perms} {m.pgoff:08x} {major:02x}:{minor:02x} {m.ino} "
    path = os.fsencode(m.path).replace(b"\n", b"\\012")
    return (head.encode().ljust(73) + path if path else head.encode()) + b"\n"


@given(mappings())
def test_maps(found: list[maps.Mapping]) -> None:
    # A path that begins with blanks can't be told from the padding, and the kernel has none.
    assert maps.parse_maps(b"".join(map(render_mapping, found))) == found


FLAGS = st.sets(st.sampled_from(["rd", "wr", "mr", "mw", "me", "uw", "ht", "??"]), max_size=6)


@given(mappings(), st.data())
def test_smaps(found: list[maps.Mapping], data: st.DataObject) -> None:
    text = b""
    expected = []
    for mapping in found:
        sizes = {"Size": 4, "Rss": data.draw(st.integers(0, 10**10)), "Swap": 0}
        flags = data.draw(FLAGS)
        block = "".join(f"{name + ':':15}{kb:8} kB\n" for name, kb in sizes.items())
        text += render_mapping(mapping) + block.encode()
        text += ("VmFlags: " + "".join(f"{flag} " for flag in flags) + "\n").encode()
        expected.append((mapping, frozenset(flags), sizes["Rss"] << 10))
    parsed = smaps.parse_smaps(text)
    assert [(s.mapping, s.flags, s.size("Rss")) for s in parsed] == expected


@given(
    NAMES,
    st.integers(0, 0o777),
    PIDS,
    st.lists(U32, max_size=20),
    st.lists(U32, min_size=8, max_size=8),
    st.lists(U64, min_size=10, max_size=10),
    st.integers(1, 2**200),
)
def test_status(
    name: str, umask: int, pid: int, groups: list[int], ids: list[int], masks: list[int], cpus: int
) -> None:
    shown = os.fsencode(name).strip(b" \t").replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    words = [f"{cpus >> shift & 0xFFFFFFFF:08x}" for shift in range(0, 224, 32)][::-1]
    keys = [f"Sig{k}" for k in ("Pnd", "Shd", "Blk", "Ign", "Cgt")]
    keys[1] = "ShdPnd"
    keys += [f"Cap{k}" for k in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    text = b"Name:\t" + shown + b"\n"
    text += (
        f"Umask:\t{umask:04o}\nState:\tS (sleeping)\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t1\n"
        f"TracerPid:\t0\nUid:\t{ids[0]}\t{ids[1]}\t{ids[2]}\t{ids[3]}\n"
        f"Gid:\t{ids[4]}\t{ids[5]}\t{ids[6]}\t{ids[7]}\nFDSize:\t64\n"
        f"Groups:\t{' '.join(map(str, groups))} \nThreads:\t1\nSigQ:\t0/5\n"
        + "".join(f"{key}:\t{value:016x}\n" for key, value in zip(keys, masks, strict=True))
        + f"NoNewPrivs:\t1\nCpus_allowed:\t{','.join(words)}\n"
    ).encode()
    parsed = status.parse_status(text)
    assert os.fsencode(parsed.name) == os.fsencode(name).strip(b" \t")
    assert (parsed.umask, parsed.pid, list(parsed.groups)) == (umask, pid, groups)
    assert [*parsed.uid, *parsed.gid] == ids
    s, c = parsed.signals, parsed.capabilities
    assert [s.pending, s.shared, s.blocked, s.ignored, s.caught] == masks[:5]
    assert [c.inheritable, c.permitted, c.effective, c.bounding, c.ambient] == masks[5:]
    assert parsed.cpus_allowed == cpus


LOCKS = st.builds(
    locks.Lock,
    number=st.integers(1, 10**6),
    waiting=st.just(False),
    kind=st.sampled_from(["POSIX", "FLOCK", "OFDLCK"]),
    mode=st.just("ADVISORY"),
    access=st.sampled_from(["READ", "WRITE"]),
    pid=st.integers(-1, 2**22),
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    ino=U64,
    start=st.integers(0, 2**63 - 2),
    end=st.integers(0, 2**63 - 1),
)


@given(
    st.integers(-(2**63), 2**63 - 1),
    U32,
    st.integers(-1, 10**6),
    st.none() | U64,
    st.lists(LOCKS, max_size=3),
    st.lists(st.from_regex(r"[a-z]{1,9}: [0-9a-f ]*", fullmatch=True)),
)
def test_fdinfo(
    pos: int, flags: int, mnt_id: int, ino: int | None, held: list[locks.Lock], extra: list[str]
) -> None:
    extra = [line for line in extra if not line.startswith(("pos:", "ino:", "lock:", "flags:"))]
    text = f"pos:\t{pos}\nflags:\t0{flags:o}\nmnt_id:\t{mnt_id}\n"
    text += "" if ino is None else f"ino:\t{ino}\n"
    for lock in held:
        end = "EOF" if lock.end == locks.EOF else str(lock.end)
        text += f"lock:\t{lock.number}: {lock.kind:6} {lock.mode}  {lock.access:5} {lock.pid} "
        text += f"{lock.device[0]:02x}:{lock.device[1]:02x}:{lock.ino} {lock.start} {end}\n"
    text += "".join(f"{line}\n" for line in extra)
    expected = fdinfo.FdInfo(pos, flags, mnt_id, ino, tuple(held), tuple(extra))
    assert fdinfo.parse_fdinfo(text.encode()) == expected


PARSERS = (
    auxv.parse_auxv,
    cgroup.parse_cgroup,
    fdinfo.parse_fdinfo,
    limits.parse_limits,
    locks.parse_locks,
    maps.parse_maps,
    mountinfo.parse_mountinfo,
    smaps.parse_smaps,
    stat.parse_stat,
    status.parse_status,
)
OWN = ("auxv", "cgroup", "fdinfo/0", "limits", "maps", "mountinfo", "smaps", "stat", "status")


@given(st.binary(max_size=400), st.sampled_from(PARSERS))
def test_anything_at_all_parses_or_is_refused(data: bytes, parse: object) -> None:
    assert callable(parse)
    try:
        parse(data)
    except ProcfsError as error:
        assert error.file


@given(st.data())
def test_damaged_files_parse_or_are_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(OWN))
    text = bytearray(recorded(name))
    at = data.draw(st.integers(0, len(text) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "drop"])):
        case "flip":
            text[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del text[at:]
        case "insert":
            text[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        case "drop":
            del text[at : at + data.draw(st.integers(1, 200))]
    kind = name.split("/")[0]
    parse = next(p for p in PARSERS if p.__name__ == f"parse_{kind}")
    try:
        parse(bytes(text))
    except ProcfsError as error:
        assert error.file == kind or (kind == "fdinfo" and error.file == "locks")


@cache
def recorded(name: str) -> bytes:
    """One look at our own file: each look would give another text, and hypothesis needs one."""
    with ProcDir(os.getpid()) as proc:
        return proc.read(name)
