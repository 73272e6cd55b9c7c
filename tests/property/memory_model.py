"""A model of address spaces: what each page must hold after any sequence of system calls.

A page holds one 64-bit word, repeated. Where the kernel may choose (MADV_FREE), it holds one of
several. The model knows nothing of tracking, page tables or images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

READ, WRITE = 1, 2
FILE_WORD = 0xF11E << 32


@dataclass(slots=True)
class Object:
    """Memory that several mappings share."""

    words: list[int]


@dataclass(slots=True)
class Page:
    """`base`: what it holds while nobody wrote to it (zero, or the file's). `own`: the words of
    which it holds one since; None: `base`. A page of shared memory is `index` of `shared`."""

    prot: int
    base: int = 0
    own: tuple[int, ...] | None = None
    shared: Object | None = None
    index: int = 0
    locked: bool = False
    file: bool = False

    @property
    def words(self) -> tuple[int, ...]:
        if self.shared is not None:
            return (self.shared.words[self.index],)
        return (self.base,) if self.own is None else self.own

    @property
    def anonymous(self) -> bool:
        """Private and of no file."""
        return self.shared is None and not self.file

    def kind(self) -> tuple[object, ...]:
        """Neighbours of equal kind can be in one mapping."""
        return self.prot, id(self.shared), self.file, self.locked

    def write(self, word: int) -> None:
        if self.shared is not None:
            self.shared.words[self.index] = word
        else:
            self.own = (word,)

    def drop(self) -> None:
        """MADV_DONTNEED."""
        self.own = None

    def free(self) -> None:
        """MADV_FREE."""
        self.own = tuple({*self.words, 0})

    def remove(self) -> None:
        """MADV_REMOVE."""
        assert self.shared is not None
        self.shared.words[self.index] = 0


class Space:
    """The pages of one process, by number."""

    def __init__(self, pages: dict[int, Page] | None = None) -> None:
        self.pages = pages or {}

    def map(self, first: int, pages: Iterable[Page]) -> None:
        """In place of whatever is there."""
        for number, page in enumerate(pages, first):
            self.pages[number] = page

    def unmap(self, first: int, nr: int) -> None:
        for number in range(first, first + nr):
            self.pages.pop(number, None)

    def move(self, first: int, nr: int, to: int, *, keep: bool = False) -> None:
        """`keep`: MREMAP_DONTUNMAP, what is moved away leaves zeros behind."""
        moved = [self.pages.pop(number) for number in range(first, first + nr)]
        self.unmap(to, nr)
        self.map(to, moved)
        if keep:
            self.map(first, (Page(page.prot, locked=page.locked) for page in moved))

    def run(self, number: int) -> range:
        """All around page `number` that is of its kind, without a gap."""
        kind = self.pages[number].kind()
        first = end = number
        while first - 1 in self.pages and self.pages[first - 1].kind() == kind:
            first -= 1
        while end in self.pages and self.pages[end].kind() == kind:
            end += 1
        return range(first, end)

    def runs(self) -> Iterator[range]:
        for number in sorted(self.pages):
            if not (number - 1 in self.pages and number in self.run(number - 1)):
                yield self.run(number)

    def of(self, part: range) -> list[Page]:
        return [self.pages[number] for number in part]

    def forked(self) -> Space:
        """The child's: shared memory stays shared, locks are not inherited."""
        return Space({n: replace(page, locked=False) for n, page in self.pages.items()})
