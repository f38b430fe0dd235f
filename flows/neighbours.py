"""Who is on a network on other hosts, for what is filled from the topology instead of learned.

A network of thousands is the same for all of its hosts but for who is not elsewhere there. So what compilers look at of
everybody is kept once, in columns, and a row is only made where somebody looks at it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, overload

from flows import fields as f


class Neighbour(NamedTuple):
    """A port of a network on some host. It is the same for every host, which has a tunnel to it or not."""

    name: str
    origin: str
    mac: str
    address: IPv4Address | IPv6Address
    remote: str  # the name of the host it lives on
    secured: bool  # False: MACs that the topology does not know may live behind it
    also: tuple[str, ...] = ()  # MACs of its allowed address pairs, not its own

    @property
    def macs(self) -> tuple[str, ...]:
        """Every MAC that the topology lets it wear, its own first."""
        return self.mac, *self.also


class Everybody:
    """All who are on a network, on whatever host."""

    def __init__(self, macs: Sequence[str], remotes: Sequence[str], make: Callable[[int], Neighbour], *,
                 alike: bool) -> None:
        """`make`: index -> row. `alike`: all of them have port security, and no MAC beside their own."""
        self.remotes = remotes
        self._macs, self._make, self._alike = macs, make, alike

    @classmethod
    def of(cls, rows: Sequence[Neighbour]) -> Everybody:
        """From rows that are there already."""
        return cls([one.mac for one in rows], [one.remote for one in rows], rows.__getitem__,
                   alike=all(one.secured and not one.also for one in rows))

    @cached_property
    def macs(self) -> tuple[int, ...]:
        """The own MAC of each, as a number."""
        return f.numbers(self._macs)

    @cached_property
    def at(self) -> Mapping[int, int]:
        """MAC -> index of who wears it as its own; of several, the last."""
        return {mac: index for index, mac in enumerate(self.macs)}

    @property
    def plain(self) -> bool:
        """Whether each lives behind one MAC, its own, that nobody else wears: as nearly always."""
        return self._alike and len(self.at) == len(self.macs)

    def find(self) -> None:
        """What every host asks for, before one does."""
        _ = self.plain or self.rows

    @cached_property
    def rows(self) -> tuple[Neighbour, ...]:
        """All of them."""
        return tuple(map(self._make, range(len(self._macs))))

    def row(self, index: int) -> Neighbour:
        """One of them."""
        return self._make(index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Everybody) and self.rows == other.rows

    def __hash__(self) -> int:
        return hash(self.rows)


class Elsewhere(Sequence[Neighbour]):
    """Those who are not on this host, in order. Equal to a tuple of them."""

    def __init__(self, everybody: Everybody, host: str) -> None:
        self.everybody, self._host = everybody, host
        self._wearing: dict[frozenset[str], tuple[Neighbour, ...]] = {}

    @classmethod
    def of(cls, rows: Sequence[Neighbour]) -> Elsewhere:
        """From rows that are there already."""
        return rows if isinstance(rows, cls) else cls(Everybody.of(rows), "")

    def wearing(self, macs: Iterable[str]) -> tuple[Neighbour, ...]:
        """Those of them that wear one of these MACs; and all that wear MACs beside their own."""
        wanted = frozenset(macs)
        found = self._wearing.get(wanted)
        if found is None:
            found = self._wearing[wanted] = self._find_wearing(wanted)
        return found

    def _find_wearing(self, macs: frozenset[str]) -> tuple[Neighbour, ...]:
        everybody, wanted = self.everybody, tuple(macs)
        if not everybody.plain:
            return tuple([one for one in self if one.also or one.mac in macs])
        found = [index for mac in f.numbers(wanted) if (index := everybody.at.get(mac)) is not None]
        return tuple([everybody.row(index) for index in sorted(found) if everybody.remotes[index] != self._host])

    @cached_property
    def _indices(self) -> list[int]:
        return [index for index, remote in enumerate(self.everybody.remotes) if remote != self._host]

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, at: int) -> Neighbour: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Neighbour, ...]: ...

    def __getitem__(self, at: int | slice) -> Neighbour | tuple[Neighbour, ...]:
        if isinstance(at, slice):
            return tuple([self.everybody.row(index) for index in self._indices[at]])
        return self.everybody.row(self._indices[at])

    def __iter__(self) -> Iterator[Neighbour]:
        rows = self.everybody.rows
        return (rows[index] for index in self._indices)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, Elsewhere) else other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Elsewhere({tuple(self)})"
