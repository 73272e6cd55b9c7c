"""What the keeper of a tracked tree lends for a snapshot, and gets back.

Writes are tracked by the protection of pages, and a live snapshot goes by it too, so both work with
one userfaultfd: it passes from hand to hand, and no page is ever out of sight.

1. The keeper's server ends, ours begins. Faults wait meanwhile.
2. What is not protected was written since the last set. It is protected, and that noted here: from
   now on the page tables do not tell it any more. This goes on until the tree stands.
3. While it stands, all is known that this set must hold: what the keeper owed, what was noted, and
   what is not protected now. The rest is as the set before has it.
4. A page that is written to loses its protection, whether it was copied for that, or is in the set
   before. The sweep copies pages and leaves them protected. So what is not protected at the end was
   written since the instant, and the next snapshot finds it.
5. The keeper gets the sets of 3, as a round of its own, then serves again. If the set is never
   finished, that round is never committed, and goes into the next one.

If we are killed before 5, nobody knows any more what 2 has protected. The keeper sees us leave,
forgets every set, and the next one is whole.

Memory that is moved takes its protection along: whatever came to a place counts as written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.mem.extents import Extents
from ckpt.mem.tracking.client import Returned
from ckpt.mem.tracking.state import Answer
from ckpt.record import field, record

if TYPE_CHECKING:
    from ckpt.mem.tracking.client import Lent


@record
class Loan:
    """One address space. `written`: what must be in this set beside what is owed."""

    lent: Lent
    written: Extents = field(default_factory=Extents.none)
    ranges: Extents = field(default_factory=Extents.none)
    populated: Extents = field(default_factory=Extents.none)

    def note(self, pages: Extents) -> None:
        """These are about to be protected, or were moved."""
        self.written = self.written | pages

    def stands(self, ranges: Extents, populated: Extents) -> None:
        """Of the instant: its mappings, and its pages with content."""
        self.ranges, self.populated = ranges, populated

    def answer(self) -> Answer:
        """What the keeper would say of the instant."""
        must = (self.lent.owed | self.written) & self.populated
        stored = self.lent.stored & self.ranges
        return Answer(must, self.populated, stored, Extents.none(), self.lent.io_contexts)

    def returned(self, moved: Extents | None) -> Returned:
        """`moved`: since the instant; None: too much to be remembered."""
        everywhere = Extents.of([(0, 1 << 56)])
        return Returned(
            self.ranges, self.written, self.populated, everywhere if moved is None else moved
        )
