"""Builds a large dictionary and prints a hash of all that is in it: a program for
tests/programs/test_incremental_programs.py, which knows nothing of being dumped. With a FIFO as its
argument it does not go beyond three quarters of its keys until somebody opens that."""

import hashlib
import sys

NR_KEYS = 150_000
NR_ROUNDS = 30


def value_of(number: int) -> bytes:
    digest = b"%d" % number
    for _ in range(NR_ROUNDS):
        digest = hashlib.sha256(digest).digest()
    return digest


def main() -> None:
    found = {}
    for number in range(NR_KEYS):
        if number == NR_KEYS * 3 // 4 and sys.argv[1:]:
            open(sys.argv[1]).close()  # noqa: PTH123 (as little else as can be is loaded)
        found[f"key {number}"] = [number, value_of(number)]
    for number in range(0, NR_KEYS, 3):
        del found[f"key {number}"]
    total = hashlib.sha256()
    for key in sorted(found):
        total.update(repr((key, found[key])).encode())
    print(len(found), total.hexdigest())


if __name__ == "__main__":
    main()
