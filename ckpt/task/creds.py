"""Credentials of one thread: ids, groups, capabilities, securebits, no_new_privs.

Dumped from /proc/TID/status, but for securebits, which only the thread itself can tell. Restored by
the thread itself, last of all that needs privilege, in an order in which no step undoes another:

1. groups and filesystem-independent ids while capabilities are whole, with
   SECBIT_NO_SETUID_FIXUP set so that the change of uid leaves them alone;
2. the bounding set (needs CAP_SETPCAP), then securebits (needs it too);
3. inheritable, permitted, effective; then ambient; then no_new_privs.

Source: credentials(7), capabilities(7), kernel/sys.c, security/commoncap.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.infect.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.images.pb.creds_pb2 import creds_entry
    from ckpt.procfs.status import Status

PR_SET_SECUREBITS, PR_GET_SECUREBITS, PR_CAPBSET_DROP = 28, 27, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 38, 47, 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_VERSION_3 = 0x20080522
_WORDS = 2


def _words(mask: int) -> list[int]:
    return [mask & 0xFFFFFFFF, mask >> 32 & 0xFFFFFFFF]


def _mask(words: Sequence[int]) -> int:
    return sum(word << 32 * i for i, word in enumerate(words[:_WORDS]))


def fill(entry: creds_entry, status: Status, securebits: int) -> None:
    """Write a thread's credentials into the message."""
    ids, caps = status.uid, status.capabilities
    entry.uid, entry.euid, entry.suid, entry.fsuid = ids.real, ids.effective, ids.saved, ids.fs
    ids = status.gid
    entry.gid, entry.egid, entry.sgid, entry.fsgid = ids.real, ids.effective, ids.saved, ids.fs
    entry.cap_inh.extend(_words(caps.inheritable))
    entry.cap_prm.extend(_words(caps.permitted))
    entry.cap_eff.extend(_words(caps.effective))
    entry.cap_bnd.extend(_words(caps.bounding))
    if caps.ambient:
        entry.cap_amb.extend(_words(caps.ambient))
    entry.secbits = securebits
    entry.groups.extend(status.groups)
    entry.no_new_privs = int(status.no_new_privs)


def restore(batch: Batch, entry: creds_entry, ours: creds_entry, last_cap: int) -> None:
    """Add the calls that give the calling thread these credentials. `ours` are those that it has
    now: what is the same already is not asked for, since it could be denied. `last_cap` is the
    kernel's highest capability."""
    secbits = ours.secbits
    if _user_ids(entry) != _user_ids(ours):
        secbits = _SECBIT_NO_SETUID_FIXUP
        batch.call("prctl", PR_SET_SECUREBITS, secbits, 0, 0, 0, note="securebits")
    if list(entry.groups) != list(ours.groups):
        groups = batch.put(struct.pack(f"<{len(entry.groups)}I", *entry.groups))
        batch.call("setgroups", len(entry.groups), groups, note="supplementary groups")
    batch.call("setresgid", entry.gid, entry.egid, entry.sgid, note="group ids")
    batch.call("setfsgid", entry.fsgid, any_result=True)
    batch.call("setresuid", entry.uid, entry.euid, entry.suid, note="user ids")
    batch.call("setfsuid", entry.fsuid, any_result=True)
    dropped = _mask(ours.cap_bnd) & ~_mask(entry.cap_bnd)
    for cap in range(last_cap + 1):
        if dropped >> cap & 1:
            batch.call("prctl", PR_CAPBSET_DROP, cap, 0, 0, 0, note="capability bounding set")
    if entry.secbits != secbits:
        batch.call("prctl", PR_SET_SECUREBITS, entry.secbits, 0, 0, 0, note="securebits")
    _capset(batch, entry)
    ambient = _mask(entry.cap_amb)
    for cap in range(last_cap + 1):
        if ambient >> cap & 1:
            batch.call(
                *("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0), note="ambient set"
            )
    if entry.no_new_privs:
        batch.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, note="no_new_privs")


def _capset(batch: Batch, entry: creds_entry) -> None:
    header = batch.put(struct.pack("<Ii", _CAP_VERSION_3, 0))
    sets = [_words(_mask(words)) for words in (entry.cap_eff, entry.cap_prm, entry.cap_inh)]
    data = b"".join(struct.pack("<III", sets[0][i], sets[1][i], sets[2][i]) for i in range(_WORDS))
    batch.call("capset", header, batch.put(data), note="capability sets")


def effective(entry: creds_entry) -> int:
    """The effective set: capability N is bit N."""
    return _mask(entry.cap_eff)


def beyond(entry: creds_entry, ours: creds_entry) -> int:
    """Capabilities that a process with our credentials can't give: its own sets lack them."""
    wanted = _mask(entry.cap_prm) | _mask(entry.cap_eff)
    given = _mask(ours.cap_prm) & _mask(ours.cap_bnd)
    return wanted & ~given | _mask(entry.cap_bnd) & ~_mask(ours.cap_bnd)


def _user_ids(entry: creds_entry) -> tuple[int, int, int, int]:
    return entry.uid, entry.euid, entry.suid, entry.fsuid
