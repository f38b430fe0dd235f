"""Flows that many ports have, alike but for the port's numbers: made and checked once, printed for the rest.

A port of a VM has some twenty flows, and a cloud has them twenty thousand times. A stencil is the text of such flows
with holes where the numbers stand. A print is the same flows with one port's numbers in them: their cookies come from
the text, and they are only built where somebody looks at them.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import repeat
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

from flows.cookie import cookies_of_text
from flows.flow import Flow
from flows.tables import Table
from flows.text import line

_HOLE: Final = "%s"
_LINE: Final = "\n"


class Numbers(Protocol):
    """All that the flows of a stencil can differ in."""

    def texts(self) -> tuple[str, ...]:
        """Each number as it is written in the text of flows, once for each way in which it is."""

    def octets(self) -> tuple[bytes, ...]:
        """Each number as it is written in messages; nothing for what has no width of its own."""


Made = tuple[tuple[Flow, ...], Numbers]  # flows, and the numbers in them


class Stencil:
    """Made of the same flows twice, with numbers and with others, such as are in no other place of these texts.

    ValueError if the second flows are not what the first ones are with their numbers exchanged.
    """

    def __init__(self, first: Made, second: Made) -> None:
        self.made = first, second
        self.models = first[0]  # flows that those of any print differ from in numbers alone
        pieces, places = holes(_LINE.join(map(line, first[0])), first[1].texts())
        self._text = _HOLE.join(pieces)
        self._pick: Callable[[Sequence[str]], object] = itemgetter(*places) if places else lambda _: ()
        if self.lines(second[1]) != [line(one) for one in second[0]]:
            raise ValueError("these flows do not differ in these numbers alone")

    @cached_property
    def tables(self) -> frozenset[Table]:
        """Of all its flows."""
        return frozenset(flow.table for flow in self.models)

    def text(self, numbers: Numbers) -> str:
        """The canonical lines of the flows with these numbers, one below the other."""
        return self._text % self._pick(numbers.texts())

    def lines(self, numbers: Numbers) -> list[str]:
        """The same, one by one."""
        return self.text(numbers).split(_LINE)


def holes(whole: str, numbers: Sequence[str]) -> tuple[list[str], list[int]]:
    """What stands between holes where numbers were, and which number was in each hole."""
    if not numbers:
        return [whole], []
    found = re.split(f"({'|'.join(map(re.escape, numbers))})", whole)
    return found[::2], [numbers.index(number) for number in found[1::2]]


class Print:
    """The flows of a stencil with numbers of their own. `make`: builds them, in the order of the stencil's models."""

    __slots__ = ("_cookies", "_flows", "_make", "_octets", "numbers", "stencil")

    def __init__(self, stencil: Stencil, numbers: Numbers, make: Callable[[], Iterable[Flow]]) -> None:
        self.stencil, self.numbers, self._make = stencil, numbers, make
        self._flows: tuple[Flow, ...] = ()
        self._cookies: list[int] = []
        self._octets: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.stencil.models)

    @property
    def table(self) -> Table:
        """Of the first of its flows; the others are of the same bridge."""
        return self.stencil.models[0].table

    def lines(self) -> list[str]:
        """Their canonical lines."""
        return self.stencil.lines(self.numbers)

    def octets(self) -> tuple[bytes, ...]:
        """Its numbers as they are written in messages. Computed once."""
        if not self._octets:
            self._octets = self.numbers.octets()
        return self._octets

    def cookies(self) -> list[int]:
        """The very same that `cookie_of` gives for each of its flows. Computed once."""
        if not self._cookies:
            self._cookies = cookies_of_text(self.stencil.text(self.numbers))
        return self._cookies

    def flow(self, index: int) -> Flow:
        """One of them."""
        return self._built()[index]

    def rows(self) -> Iterator[Printed]:
        """Its rows, not built."""
        return map(_printed, zip(repeat(self), range(len(self.stencil.models))))

    def __iter__(self) -> Iterator[Flow]:
        return iter(self._built())

    def _built(self) -> tuple[Flow, ...]:
        if not self._flows:
            self._flows = tuple(self._make())
        return self._flows


class Printed(NamedTuple):
    """One row of a print."""

    print: Print
    index: int  # type: ignore[assignment]  # nobody asks a row for tuple's method of that name

    @property
    def flow(self) -> Flow:
        """Built with the first look at its print."""
        return self.print.flow(self.index)

    @property
    def model(self) -> Flow:
        """A flow that differs from this one in numbers alone: the table, the priority and the kinds of actions hold."""
        return self.print.stencil.models[self.index]

    @property
    def table(self) -> Table:
        return self.model.table

    @property
    def priority(self) -> int:
        return self.model.priority

    @property
    def origin(self) -> str:
        return self.flow.origin

    @property
    def why(self) -> str:
        return self.flow.why


# As in `sheet`: half a million of them are made.
_printed: Final[Callable[[tuple[Print, int]], Printed]] = partial(tuple.__new__, Printed)
