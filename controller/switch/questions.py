"""What people may ask of a switch: a portion of its flows; and that there is no answer."""
from __future__ import annotations

from typing import NamedTuple


class Unanswerable(Exception):
    """A request that cannot be answered; str() is the sentence, `missing` says that something is not running."""

    def __init__(self, sentence: str, *, missing: bool = False) -> None:
        super().__init__(sentence)
        self.missing = missing


class Portion(NamedTuple):
    """The flows of one table, or of these one group: those whose cookie has these lowest bits.

    Cookies are digests, so groups are of one size, but for what was learned, which is in one of them.
    """

    table: int
    group: int = 0
    of: int = 1  # groups: a power of two

    @property
    def mask(self) -> int:
        """The bits that tell groups apart."""
        return self.of - 1

    def has(self, cookie: int) -> bool:
        """Whether a flow of the table is in this group."""
        return cookie & self.mask == self.group
