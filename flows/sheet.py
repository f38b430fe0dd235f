"""Many flows that differ in one matched value, as one: made and checked once, spliced for the rest.

A cloud's large tables are sheets: "this MAC lives behind that tunnel", "this port is the tunnel from that host". A row
is a flow like any other, with the cookie that it would have alone; it is only built where somebody looks at it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Final, NamedTuple

from flows import fields as f
from flows.cookie import cookie_of, cookies_of_lines
from flows.fields import Criterion, Field, Kind
from flows.flow import Action, Clone, Flow, Match, Output, SetField, Track
from flows.stencil import Print, Printed
from flows.tables import Table
from flows.text import actions_text, line_around

_SPLICED: Final = (Kind.NUMBER, Kind.HEX, Kind.MAC, Kind.IPV4, Kind.IPV6)
_LOCAL: Final = "the bridge's own interface has a name, no number, in the text of a flow"
_OF_ZONES: Final = (Track, Clone)
_IN_WORDS: Final = (f.VLAN_VID, f.IP_FRAG)  # ovs-ofctl writes some values of these, and of what decides, as words


class Sheet:
    """Flows like `model`, which is a flow of `flow()`, each with another of `values` (numbers) in its match.

    `words`: index of a row -> its origin and why; asked only where somebody wants to know. `outputs`: the OpenFlow
    port of each row's last action, an Output, where these differ, too.
    """

    __slots__ = ("_cookies", "field", "model", "outputs", "values", "words")

    def __init__(self, model: Flow, field: Field, values: tuple[int, ...], words: Callable[[int], tuple[str, str]],
                 outputs: tuple[int, ...] | None = None) -> None:
        """ValueError for what cannot be spliced."""
        _check(model, field, values)
        _check_outputs(model, outputs, len(values))
        self.model, self.field, self.values, self.words, self.outputs = model, field, values, words, outputs
        self._cookies: list[int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def table(self) -> Table:
        """Of all its flows."""
        return self.model.table

    def flow(self, index: int) -> Flow:
        """The flow of one row."""
        model, value = self.model, self.values[index]
        criteria = tuple(Criterion(one.field, value, one.mask) if one.field is self.field else one
                         for one in model.match.criteria)
        actions = model.actions
        if self.outputs is not None:
            actions = *actions[:-1], Output(self.outputs[index])
        return Flow(model.table, model.priority, Match(criteria), actions, *self.words(index))

    def cookies(self) -> list[int]:
        """The cookie of each row: the very same that `cookie_of(sheet.flow(index))` gives. Computed once."""
        if self._cookies is None and self.field is f.IN_PORT and self.outputs is None:
            self._cookies = _cookies_of_ports(*line_around(self.model, self.field), self.values)
        if self._cookies is None:
            before, behind = line_around(self.model, self.field)
            shown = self.field.show_all(self.values)
            if self.outputs is None:
                rest = [f"{value}{behind}" for value in shown]
            else:
                behind = behind.removesuffix(actions_text(self.model.actions[-1:])) + "output:"
                rest = [f"{value}{behind}{port}" for value, port in zip(shown, self.outputs, strict=True)]
            self._cookies = cookies_of_lines(before, rest)
        return self._cookies

    def rows(self) -> Iterator[Spliced]:
        """Its rows, not built."""
        return map(_spliced, zip(repeat(self), range(len(self.values))))

    def __iter__(self) -> Iterator[Flow]:
        return map(self.flow, range(len(self.values)))


_OF_PORTS: Final[dict[tuple[str, str], dict[int, int]]] = {}


def _cookies_of_ports(before: str, behind: str, ports: Sequence[int]) -> list[int]:
    """Of lines that differ in a port's number alone: these numbers are small, and each switch has the same ones."""
    known = _OF_PORTS.setdefault((before, behind), {})
    new = [port for port in ports if port not in known]
    known.update(zip(new, cookies_of_lines(before, [f"{port}{behind}" for port in new]), strict=True))
    return [known[port] for port in ports]


def _check(model: Flow, field: Field, values: Sequence[int]) -> None:
    criterion = model.match[field]
    if criterion is None or not criterion.exact:
        raise ValueError(f"the model of a sheet does not compare its {field.name} bit by bit")
    if field.kind not in _SPLICED or field in _IN_WORDS or field.decides:
        raise ValueError(f"{field.name} is not only a number in the text of a flow")
    if field is f.IN_PORT and f.LOCAL_PORT in values:
        raise ValueError(_LOCAL)
    if values and (min(values) < 0 or max(values) > field.full):
        raise ValueError(f"a value does not fit the {field.bits} bits of {field.name}")
    if any(isinstance(action, _OF_ZONES) or _is_register(action) for action in model.actions):
        raise ValueError("the rows of a sheet have nothing tracked: who has a zone is asked of flows")


def _check_outputs(model: Flow, outputs: Sequence[int] | None, rows: int) -> None:
    if outputs is None:
        return
    if len(outputs) != rows or not model.actions or not isinstance(model.actions[-1], Output):
        raise ValueError("outputs are for each row, and for a model whose last action is an output")
    if f.LOCAL_PORT in outputs:
        raise ValueError(_LOCAL)


def _is_register(action: Action) -> bool:
    return isinstance(action, SetField) and action.criterion.field in f.REGISTERS


class Spliced(NamedTuple):
    """One row of a sheet."""

    sheet: Sheet
    index: int  # type: ignore[assignment]  # nobody asks a row for tuple's method of that name

    @property
    def flow(self) -> Flow:
        """Built anew with each look."""
        return self.sheet.flow(self.index)

    @property
    def model(self) -> Flow:
        """A flow that differs from this one in numbers alone."""
        return self.sheet.model

    @property
    def table(self) -> Table:
        return self.sheet.model.table

    @property
    def priority(self) -> int:
        return self.sheet.model.priority

    @property
    def origin(self) -> str:
        return self.sheet.words(self.index)[0]

    @property
    def why(self) -> str:
        return self.sheet.words(self.index)[1]

    @property
    def value(self) -> int:
        """What it compares the sheet's field with."""
        return self.sheet.values[self.index]

    @property
    def output(self) -> int | None:
        """The port of its last action, where that is its own; None where it is the model's."""
        return None if self.sheet.outputs is None else self.sheet.outputs[self.index]


# 100,000 of them are made in one go: this skips a function of Python's around the making of a tuple.
_spliced: Final[Callable[[tuple[Sheet, int]], Spliced]] = partial(tuple.__new__, Spliced)

Part = Flow | Sheet | Print  # of what a compiler yields
Row = Flow | Spliced | Printed  # of what a switch shall hold


def whole(parts: Iterable[Part]) -> Iterator[Flow]:
    """Every flow, for whoever wants flows."""
    for part in parts:
        if isinstance(part, Flow):
            yield part
        else:
            yield from part


def numbered(parts: Iterable[Part]) -> dict[int, Row]:
    """Cookie -> row of every flow, each once; the rows of a sheet, or of a print, stay together."""
    found: dict[int, Row] = {}
    for part in parts:
        if isinstance(part, Flow):
            found[cookie_of(part)] = part
        else:
            found.update(zip(part.cookies(), part.rows(), strict=False))
    return found


def cookies_of(part: Part) -> Sequence[int]:
    """Of all its flows."""
    return (cookie_of(part),) if isinstance(part, Flow) else part.cookies()


def within(parts: Iterable[Part], tables: frozenset[Table]) -> list[Part]:
    """Those of which a flow may be in one of these tables."""
    return [part for part in parts if (
        part.model.table in tables if isinstance(part, Sheet)
        else not tables.isdisjoint(part.stencil.tables) if isinstance(part, Print) else part.table in tables)]


def alike(part: Part) -> Iterator[tuple[Flow, Sequence[int]]]:
    """Flows that differ in numbers alone: one such, and the cookies of all."""
    if isinstance(part, Flow):
        yield part, (cookie_of(part),)
    elif isinstance(part, Sheet):
        yield part.model, part.cookies()
    else:
        yield from ((model, (cookie,)) for model, cookie in zip(part.stencil.models, part.cookies(), strict=True))


def flow_of(row: Row) -> Flow:
    """A row as a flow."""
    return row if isinstance(row, Flow) else row.flow
