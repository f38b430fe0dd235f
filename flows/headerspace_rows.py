"""A bridge's tables, asked with sets of packets: which rows take which part of what comes to a table."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final, NamedTuple

from flows import fields as f
from flows.flow import Conjunction, Flow
from flows.headerspace import Literal, Region, meet, without
from flows.tables import Table

Now = int | str  # what a field holds: a number, or what a variable (by its name) held when the frame came in
Values = Mapping[str, Now]  # field -> what it holds, where that is not what it held when the frame came in
# Without a value these are 0, not what a frame came in with.
INSIDE: Final = frozenset({f.CT_STATE.name, f.TUN_ID.name, f.CONJ_ID.name, *(one.name for one in f.TRACKED),
                           *(one.name for one in f.REGISTERS)})
# Connection tracking has 16 bits for what these have 8 for.
_NARROW: Final = {"icmpv4_type": 0xFF, f.ICMPV6_TYPE.name: 0xFF}
# By these, rows are found without looking at all of them: they are nearly always known.
_KEYS: Final = {one.name for one in (f.IN_PORT, f.VLAN_VID, f.TUN_ID, f.CONJ_ID, *f.REGISTERS)}


class Candidate(NamedTuple):
    """A row that may take a packet, and what is left to ask of it."""

    row: Flow
    rest: tuple[Literal, ...]
    clauses: tuple[Flow, ...] = ()  # that make it count, if it is for a conjunction


_Shape = tuple[tuple[str, int], ...]  # (field, mask) of what a row is found by
_Bucket = list[tuple[Flow, tuple[Literal, ...]]]
_Taken = tuple[Candidate, Region, Region]  # a row, what it takes, and what came to it


class Tables:
    """Flows by table, sorted once for many sets of packets."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self._shapes: dict[Table, dict[_Shape, dict[tuple[int, ...], _Bucket]]] = {}
        self._found: dict[tuple[Table, tuple[Now, ...]], tuple[Candidate, ...]] = {}
        for row in flows:
            shape: list[tuple[str, int]] = []
            values: list[int] = []
            rest: list[Literal] = []
            for criterion in row.match.criteria:
                name = criterion.field.name
                if name in _KEYS:
                    shape.append((name, criterion.mask))
                    values.append(criterion.value)
                else:
                    rest.append(Literal(name, criterion.value, criterion.mask))
            buckets = self._shapes.setdefault(row.table, {}).setdefault(tuple(shape), {})
            buckets.setdefault(tuple(values), []).append((row, tuple(rest)))
        self._keys = {table: tuple(sorted({name for shape in shapes for name, _ in shape}))
                      for table, shapes in self._shapes.items()}

    def split(self, table: Table, space: Region, now: Values) -> Iterator[tuple[Candidate | None, Region]]:
        """Rows of a table, and what each takes of a set of packets; None stands for no row.

        What is left for rows below a conjunction is not made less by it: too much for them, never too little. Where
        the last rows do the same, the lowest of them stands for all.
        """
        taken: list[_Taken] = []
        left: Region | None = space
        for candidate in self._candidates(table, now):
            if left is None:
                break
            literals = asked(candidate.rest, now)
            hit = None if literals is None else meet(left, literals)
            if literals is not None and hit is not None:
                taken.append((candidate, hit, left))
                if not candidate.clauses:
                    left = without(left, literals)
        if left is None:
            _join(taken)
        yield from ((candidate, hit) for candidate, hit, _ in taken)
        if left is not None:
            yield None, left

    def _candidates(self, table: Table, now: Values) -> tuple[Candidate, ...]:
        """The rows that may count, the first to be asked first."""
        names = self._keys.get(table, ())
        known = tuple([now.get(name, 0 if name in INSIDE else name) for name in names])
        found = self._found.get((table, known))
        if found is None:
            found = self._found[table, known] = tuple(self._ordered(table, dict(zip(names, known, strict=True))))
        return found

    def _ordered(self, table: Table, known: dict[str, Now]) -> list[Candidate]:
        """By priority; what a conjunction comes to stands where its clauses stand."""
        rows = self._rows(table, known)
        found = _plain(rows)
        for number, rest, clauses in _products(rows):
            both = self._rows(table, {**known, f.CONJ_ID.name: number})
            found += [Candidate(row, (*rest, *own), clauses) for row, own in both
                      if row.match[f.CONJ_ID] is not None]
        found.sort(key=lambda one: (-(one.clauses[0] if one.clauses else one.row).priority, bool(one.clauses)))
        return found

    def _rows(self, table: Table, known: Values) -> _Bucket:
        found: _Bucket = []
        for shape, buckets in self._shapes.get(table, {}).items():
            numbers = [known[name] for name, _ in shape]
            if all(isinstance(one, int) for one in numbers):
                key = tuple([one & mask for one, (_, mask) in zip(numbers, shape, strict=True) if isinstance(one, int)])
                found += buckets.get(key, ())
                continue
            for values, bucket in buckets.items():
                own = [Literal(name, value, mask) for (name, mask), value in zip(shape, values, strict=True)]
                if asked(own, known) is not None:
                    found += [(row, (*own, *rest)) for row, rest in bucket]
        return found


def asked(literals: Iterable[Literal], now: Values) -> list[Literal] | None:
    """Conditions on fields as conditions on variables; None if one of them does not hold."""
    found = []
    for literal in literals:
        name, value, mask = literal
        held = now.get(name)
        if held is None:
            if name not in INSIDE:
                found.append(literal)
                continue
            held = 0
        if isinstance(held, int):
            if held & mask != value:
                return None
        else:
            bits = _NARROW.get(held, mask)
            if value & ~bits:
                return None
            found.append(Literal(held, value, mask & bits))
    return found


def _join(taken: list[_Taken]) -> None:
    """The last row takes all that comes to it; if the one above does the same with its part, they share one set."""
    while len(taken) > 1:
        (above, _, came), (last, _, _) = taken[-2:]
        if above.clauses or last.clauses or above.row.actions != last.row.actions:
            return
        taken[-2:] = [(last, came, came)]


def _plain(rows: _Bucket) -> list[Candidate]:
    return [Candidate(row, rest) for row, rest in rows if not row.is_clause]


def _products(rows: _Bucket) -> Iterator[tuple[int, tuple[Literal, ...], tuple[Flow, ...]]]:
    """(number, conditions, rows) of every choice of one row for each clause of a conjunction."""
    met: dict[tuple[int, int], dict[int, _Bucket]] = {}
    size: dict[int, int] = {}
    for row, rest in rows:
        for one in row.actions:
            if isinstance(one, Conjunction):
                met.setdefault((row.priority, one.id), {}).setdefault(one.clause, []).append((row, rest))
                size[one.id] = one.of
    for (_, number), clauses in sorted(met.items()):
        if len(clauses) == size[number]:
            for chosen in product(*(clauses[clause] for clause in sorted(clauses))):
                rest = tuple(literal for _, own in chosen for literal in own)
                yield number, rest, tuple(row for row, _ in chosen)
