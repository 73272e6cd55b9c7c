"""Sets of numbers as lists of half-open pairs (start, end): ascending, neither touching nor
overlapping. Plain tuples, since chains have hundreds of thousands of them; what a function gets is
in this form, and so is what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Spans = list[tuple[int, int]]


def joined(ascending: Iterable[tuple[int, int]]) -> Spans:
    """From pairs that ascend but may touch or overlap."""
    found: Spans = []
    last_start = last_end = -1
    for start, end in ascending:
        if start <= last_end and found:
            if end > last_end:
                last_end = end
                found[-1] = (last_start, end)
        elif start < end:
            found.append((start, end))
            last_start, last_end = start, end
    return found


def union(a: Spans, b: Spans) -> Spans:
    """What is in either."""
    if not a or not b:
        return a or b
    return joined(sorted([*a, *b]))


def minus(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> Spans:
    """What is in `a` and not in `b`."""
    found: Spans = []
    at = 0
    for start, end in a:
        while at < len(b) and b[at][1] <= start:
            at += 1
        index = at
        while index < len(b) and b[index][0] < end:
            if b[index][0] > start:
                found.append((start, b[index][0]))
            start = b[index][1]
            index += 1
        if start < end:
            found.append((start, end))
    return found


def common(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> Spans:
    """What is in both."""
    found: Spans = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            found.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return found


def total(spans: Iterable[tuple[int, int]]) -> int:
    """How many numbers."""
    return sum(end - start for start, end in spans)
