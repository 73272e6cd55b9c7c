"""Batches: arrays of system calls, computed here and executed by the parasite.

A batch is built once and encoded for one place of one target: entries first, then the data that
they refer to. Arguments are plain integers, `Data` (a place in the batch's own data), `Load` (a
value that will stand there by then) or `Result` (what an earlier entry returned).

The encoding is `struct ckpt_batch` and `struct ckpt_entry` of parasite/include/wire.h.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from ckpt._native import lib
from ckpt.errors import KernelError
from ckpt.record import field, record

_HEAD = struct.Struct("<IIII")
_ENTRY = struct.Struct("<HHI6Q6BHqq")
_MSGHDR = struct.Struct("<QIxxxxQQQQIxxxx")
_CMSG = struct.Struct("<Qii")
_SOL_SOCKET, _SCM_RIGHTS, _MSG_CMSG_CLOEXEC = 1, 1, 0x40000000
_U64 = (1 << 64) - 1


@record(frozen=True)
class Data:
    """A place in the data of the batch that made it."""

    offset: int

    def __add__(self, more: int) -> Data:
        return Data(self.offset + more)


@record(frozen=True)
class Load:
    """The integer of `size` bytes (4, signed, or 8) that stands at `at` when the entry runs."""

    at: Data
    size: int


@record(frozen=True)
class Result:
    """What the entry with this index returned."""

    index: int


@record(frozen=True)
class Own:
    """A 32-bit field of the session's own struct, at this offset."""

    offset: int


SOCK, LENT_FD = Own(48), Own(56)
"""The parasite's end of the command socket; the descriptor that it closes when it leaves."""


@record(frozen=True)
class _Place:
    """Where the result of the entry with this index stands."""

    index: int


Arg = int | Data | Load | Result | Own | _Place


@record
class _Entry:
    op: int
    name: str
    nr: int
    args: tuple[Arg, ...]
    flags: int
    also: int
    want: int
    note: str


@record(frozen=True)
class Outcome:
    """What a batch that ran to its end returned: results by entry, and its data as it is now."""

    results: tuple[int, ...]
    data: bytes

    def of(self, result: Result) -> int:
        return self.results[result.index]

    def read(self, at: Data, size: int) -> bytes:
        return self.data[at.offset : at.offset + size]


def number(name: str) -> int:
    """The number of a system call that `_native/syscalls.txt` lists."""
    return int(getattr(lib, f"__NR_{name}"))


@record
class Batch:
    """A batch under construction."""

    _entries: list[_Entry] = field(default_factory=list)
    _data: bytearray = field(default_factory=bytearray)
    _pointers: list[tuple[int, Data]] = field(default_factory=list)
    _in_session: set[int] = field(default_factory=set)
    _made: tuple[tuple[int, int, int], bytes] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes that the encoded batch takes in the target."""
        return _HEAD.size + _ENTRY.size * len(self._entries) + len(self._data) + 16

    @property
    def names(self) -> frozenset[str]:
        """The system calls in it."""
        return frozenset(e.name for e in self._entries if e.op != lib.CKPT_OP_COPY)

    # ---- data

    def put(self, data: bytes, align: int = 8) -> Data:
        """Place `data`; `align` is at most 16."""
        self._data.extend(b"\0" * (-len(self._data) % align))
        place = Data(len(self._data))
        self._data.extend(data)
        return place

    def space(self, size: int, align: int = 8) -> Data:
        return self.put(bytes(size), align)

    def text(self, path: str | bytes) -> Data:
        """A zero-terminated string. Raises ValueError where it holds a zero itself."""
        raw = os.fsencode(path)
        if b"\0" in raw:
            raise ValueError(f"a path can't hold a zero byte: {path!r}")
        return self.put(raw + b"\0", align=1)

    def struct(self, fmt: str, *values: int | Data) -> Data:
        """Pack `values`; each `Data` must be a `Q` and becomes that place's address."""
        place = self.put(struct.pack(fmt, *(0 if isinstance(v, Data) else v for v in values)))
        codes = struct.Struct("<" + fmt.lstrip("<"))
        if any(isinstance(v, Data) for v in values):
            if codes.size != 8 * len(values):
                raise ValueError("places can be packed into structs of 64-bit words only")
            for i, value in enumerate(values):
                if isinstance(value, Data):
                    self._pointers.append((place.offset + 8 * i, value))
        return place

    def iovec(self, parts: Sequence[tuple[int, int]]) -> Data:
        """An iovec of (address, length) pairs."""
        flat = [word for part in parts for word in part]
        return self.put(struct.pack(f"<{len(flat)}Q", *flat))

    # ---- entries

    def _add(
        self,
        op: int,
        name: str,
        nr: int,
        args: tuple[Arg, ...],
        *,
        any_result: bool = False,
        want: int | None = None,
        also: int = 0,
        flags: int = 0,
        note: str = "",
    ) -> Result:
        flags |= lib.CKPT_ANY if any_result else 0
        flags |= lib.CKPT_EXACT if want is not None else 0
        self._entries.append(_Entry(op, name, nr, args, flags, also, want or 0, note))
        return Result(len(self._entries) - 1)

    def call(
        self,
        name: str,
        *args: Arg,
        any_result: bool = False,
        want: int | None = None,
        also: int = 0,
        note: str = "",
    ) -> Result:
        """One system call. It ends the batch unless it succeeds, returns exactly `want`, fails with
        the errno `also`, or `any_result` is set. `note` says in an error what it was for."""
        return self._add(
            lib.CKPT_OP_CALL,
            name,
            number(name),
            args,
            any_result=any_result,
            want=want,
            also=also,
            note=note,
        )

    def call_all(
        self,
        name: str,
        fd: Arg,
        parts: Sequence[tuple[int, int]],
        *more: Arg,
        offset: bool = False,
        note: str = "",
    ) -> Result:
        """A call on an iovec, repeated until all `parts` (address, length) are done. With
        `offset`, the first of `more` is a file position that moves along."""
        return self._add(
            lib.CKPT_OP_CALL_ALL,
            name,
            number(name),
            (fd, self.iovec(parts), len(parts), *more),
            want=sum(length for _, length in parts),
            flags=lib.CKPT_OFFSET if offset else 0,
            note=note,
        )

    def call_all_at(self, name: str, fd: Arg, iov: Data, nr: int, total: int, *more: Arg) -> Result:
        """As `call_all`, with `nr` elements of an iovec that stand at `iov` and sum to `total`."""
        return self._add(lib.CKPT_OP_CALL_ALL, name, number(name), (fd, iov, nr, *more), want=total)

    def clone(
        self,
        args: Data,
        size: int,
        session: Arg,
        place: int,
        *,
        want: int | None,
        any_result: bool = False,
        note: str = "",
    ) -> Result:
        """clone3 with `struct clone_args` at `args`; the child starts with the session struct at
        `session`, moved to the address `place` first if that is not 0."""
        return self._add(
            lib.CKPT_OP_CLONE,
            "clone3",
            number("clone3"),
            (args, size, session, place),
            any_result=any_result,
            want=want,
            note=note,
        )

    def copy(self, to: Arg, source: Arg, size: int) -> Result:
        return self._add(lib.CKPT_OP_COPY, "copy", 0, (to, source, size))

    def keep(self, where: Own, source: Arg) -> Result:
        """Copy the 32 bits at `source` into a field of the session's struct, or the low half of
        what a `Result` is."""
        if isinstance(source, Result):
            source = _Place(source.index)
        entry = self._add(lib.CKPT_OP_COPY, "copy", 0, (where.offset, source, 4))
        self._in_session.add(entry.index)
        return entry

    def wait(self, word: Arg, at_least: int) -> Result:
        return self._add(lib.CKPT_OP_WAIT, "wait", 0, (word, at_least))

    def post(self, word: Arg, n: int = 1) -> Result:
        return self._add(lib.CKPT_OP_POST, "post", 0, (word, n))

    def drain(self, name: str, *args: Arg) -> Result:
        """Repeat a call until it fails; the result says how often it succeeded."""
        return self._add(lib.CKPT_OP_DRAIN, name, number(name), args)

    def receive_fds(self, sock: Arg, nr: int) -> list[Load]:
        """Receive one SCM_RIGHTS message of `nr` descriptors (at most CKPT_MAX_FDS). A slot that
        the kernel did not fill holds -1, so that its use fails."""
        if not 0 < nr <= lib.CKPT_MAX_FDS:
            raise ValueError(f"{nr} descriptors in one message")
        byte = self.space(8)
        vector = self.struct("<QQ", byte, 1)
        control = self.put(_CMSG.pack(0, 0, 0) + struct.pack(f"<{nr}i", *[-1] * nr))
        size = _CMSG.size + (4 * nr + 7 & ~7)
        self._data.extend(bytes(size - _CMSG.size - 4 * nr))
        message = self.put(_MSGHDR.pack(0, 0, 0, 1, 0, size, 0))
        self._pointers += [(message.offset + 16, vector), (message.offset + 32, control)]
        self.call("recvmsg", sock, message, _MSG_CMSG_CLOEXEC, want=1, note="descriptors")
        return [Load(control + _CMSG.size + 4 * i, 4) for i in range(nr)]

    # ---- encoding

    def _word(self, arg: Arg, data_addr: int, base: int) -> tuple[int, int]:
        if isinstance(arg, int):
            return arg & _U64, 0
        if isinstance(arg, Data):
            return data_addr + arg.offset - base, int(lib.CKPT_ARG_DATA)
        if isinstance(arg, Load):
            kind = lib.CKPT_ARG_LOAD32 if arg.size == 4 else lib.CKPT_ARG_LOAD64
            return data_addr + arg.at.offset - base, int(kind)
        if isinstance(arg, Own):
            return arg.offset, int(lib.CKPT_ARG_LOAD32)
        if isinstance(arg, _Place):
            place = self._result_at(arg.index) - self._data_at(0)
            return data_addr + place - base, int(lib.CKPT_ARG_DATA)
        return arg.index, int(lib.CKPT_ARG_RESULT)

    def _data_at(self, addr: int) -> int:
        return addr + _HEAD.size + (_ENTRY.size * len(self._entries) + 15 & ~15)

    @staticmethod
    def _result_at(index: int) -> int:
        return _HEAD.size + _ENTRY.size * (index + 1) - 8

    def encode(self, addr: int, base: int) -> bytes:
        """The batch's bytes for address `addr` in a session whose data area starts at `base`.

        Without pointers in its data they depend on addr - base alone, and are made only once: a
        batch that is the same for many tasks can be encoded before they are frozen.
        """
        key = (addr - base, len(self._entries), len(self._data))
        if self._made is not None and self._made[0] == key:
            return self._made[1]
        raw = self._encode(addr, base)
        if not self._pointers:
            self._made = (key, raw)
        return raw

    def _encode(self, addr: int, base: int) -> bytes:
        data_addr = self._data_at(addr)
        parts = [_HEAD.pack(len(self._entries), 0, 0, 0)]
        for i, e in enumerate(self._entries):
            words = [self._word(a, data_addr, base) for a in e.args]
            if i in self._in_session:
                words[0] = words[0][0], int(lib.CKPT_ARG_DATA)
            words += [(0, 0)] * (lib.CKPT_NR_ARGS - len(words))
            values, kinds = zip(*words, strict=True)
            parts.append(_ENTRY.pack(e.op, e.flags, e.nr, *values, *kinds, e.also, e.want, 0))
        head = b"".join(parts)
        data = bytearray(self._data)
        for offset, place in self._pointers:
            struct.pack_into("<Q", data, offset, data_addr + place.offset)
        return head + bytes(data_addr - addr - len(head)) + bytes(data)

    def decode(self, addr: int, raw: bytes) -> Outcome:
        """The outcome, from the bytes that stand at `addr` after the batch has run.

        Raises KernelError naming the entry that stopped it.
        """
        done = _HEAD.unpack_from(raw)[1]
        if done > len(self._entries):
            raise KernelError("the parasite's answer makes no sense", why=f"{done} entries done")
        results = tuple(
            struct.unpack_from("<q", raw, self._result_at(i))[0]
            for i in range(min(done + 1, len(self._entries)))
        )
        if done < len(self._entries):
            raise self.failure(done, results[done])
        return Outcome(results, bytes(raw[self._data_at(addr) - addr :]))

    def failure(self, index: int, result: int) -> KernelError:
        """What to raise when the entry at `index` returned `result`."""
        e = self._entries[index]
        args = ", ".join(hex(a) if isinstance(a, int) else type(a).__name__ for a in e.args)
        why = (
            f"{errno.errorcode.get(-result, result)} ({os.strerror(-result)})"
            if -4096 < result < 0
            else f"it returned {result:#x}"
        )
        return KernelError(
            f"{e.name}({args}) failed in the task", resource=e.note or f"entry {index}", why=why
        )
