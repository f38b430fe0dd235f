"""A plan as the bytes of one bundle (OpenFlow 1.4, 6.8): a message per flow, and a name for each of them.

Flows of a sheet differ in a value or two, so their bytes do: the first of a run is packed, the others are spliced.
Those of a print are filled in (`prints`).
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.switch import additions, nicira, packing, prints, wire
from controller.switch.additions import Imprint, Pair, Run
from controller.switch.diff import Forget, Plan
from flows import cookie as cookies
from flows import fields as f
from flows.flow import Flow, Match
from flows.host import Meter
from flows.sheet import Sheet, flow_of

_CONTROL, _ADD = 33, 34  # types of messages (7.1.1)
_OPEN, _CLOSE, _COMMIT, _DISCARD = 0, 2, 4, 6  # of a control message (7.3.9.1)
_FLAGS: Final = 1 | 2  # atomic, ordered
_CONTROL_MESSAGE: Final = struct.Struct("!BBHIIHH")  # header, bundle, type, flags
_ADD_MESSAGE: Final = struct.Struct("!BBHIIHH")  # header, bundle, padding, flags; the message follows
_PIECE: Final = 1 << 16  # bytes, about
_AT_ONCE: Final = 400  # rows of a sheet that are packed in one go
_VLAN_ID_BITS: Final = 0xFFF
_XID: Final = _ADD_MESSAGE.size + 4  # where the inner message has its transaction id, and its cookie
_COOKIE: Final = _ADD_MESSAGE.size + 8
_PORT: Final = -12  # where an output action has its port, from its end


class Blame(Mapping[int, str]):
    """Transaction id -> what that message was; put into words only for whoever asks."""

    def __init__(self, first: int, said: Iterable[tuple[int, Callable[[int], str]]]) -> None:
        """`said`: how many messages in a row, and what the one at an index among them was."""
        self._first, self._said = first, tuple(said)

    def __getitem__(self, xid: int) -> str:
        at = xid - self._first
        for count, word in self._said:
            if 0 <= at < count:
                return word(at)
            at -= count
        raise KeyError(xid)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._first, self._first + len(self)))

    def __len__(self) -> int:
        return sum(count for count, _ in self._said)


@dataclass(frozen=True)
class Bundle:
    """A plan as bytes, in two parts: what a switch only takes down, and the word that makes it so.

    `staged`: pieces of about 64 KB, packed as they are asked for, once; packing.TooLarge if a flow has too many
    actions. `blame` says which message a transaction id was, for the switch's complaints.
    """

    staged: Iterator[bytes]
    final: bytes
    blame: Mapping[int, str]


def bundle(conn: Any, number: int, plan: Plan) -> Bundle:
    """One atomic, ordered bundle. Nothing is sent; `conn` gives transaction ids.

    Staged: meters, the zones to empty, then open, every message of the plan, close. Final: commit, and what comes
    after it. Open vSwitch takes neither meters nor the emptying of zones in bundles.
    """
    meters = [*((wire.ADD_METER, meter) for meter in plan.meters_add),
              *((wire.CHANGE_METER, meter) for meter in plan.meters_change)]
    staged: list[tuple[int, Callable[[int], str]]] = [
        (len(meters), lambda at: f"set meter {meters[at][1].id}"),
        (len(plan.flush), lambda at: f"empty zone {plan.flush[at]}"),
        (1, lambda _: "open the bundle"),
        (len(plan.renew), lambda at: f"delete cookie={plan.renew[at]:#x}"),
        (len(plan.add), lambda at: _added(flow_of(plan.add[at][1]))),
        (len(plan.delete), lambda at: f"delete cookie={plan.delete[at]:#x}"),
        (len(plan.forget), lambda at: f"forget {plan.forget[at]}"),
        (1, lambda _: "close the bundle")]
    final: list[tuple[int, Callable[[int], str]]] = [
        (1, lambda _: "commit"),
        (len(plan.flush_again), lambda at: f"empty zone {plan.flush_again[at]}"),
        (len(plan.meters_delete), lambda at: f"delete meter {plan.meters_delete[at]}")]
    before = sum(count for count, _ in staged)
    first = wire.next_xid(conn, before + sum(count for count, _ in final))
    return Bundle(_pieces(_staged(first, number, plan, meters)), b"".join(_final(first + before, number, plan)),
                  Blame(first, [*staged, *final]))


def discard(conn: Any, number: int) -> bytes:
    """The message that lets a switch throw away what it has taken down."""
    return _control(wire.next_xid(conn), number, _DISCARD)


def _pieces(messages: Iterable[bytes]) -> Iterator[bytes]:
    piece, size = [], 0
    for message in messages:
        piece.append(message)
        size += len(message)
        if size >= _PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


def _added(flow: Flow) -> str:
    return f"add table={flow.table.id} ({flow.why})"


def _staged(xid: int, number: int, plan: Plan, meters: list[tuple[int, Meter]]) -> Iterator[bytes]:
    """`xid`: of the first message; those that follow count on."""
    for command, meter in meters:
        yield wire.meter(xid, command, meter)
        xid += 1
    for zone in plan.flush:
        yield nicira.flush_zone(xid, zone)
        xid += 1
    yield _control(xid, number, _OPEN)
    xid += 1
    for cookie in plan.renew:
        yield _wrapped(packing.delete(xid, cookie, cookies.EXACT), number, xid)
        xid += 1
    yield from _adds(xid, number, plan.add)
    xid += len(plan.add)
    for message in _deletions(xid, plan):
        yield _wrapped(message, number, xid)
        xid += 1
    yield _control(xid, number, _CLOSE)


def _final(xid: int, number: int, plan: Plan) -> Iterator[bytes]:
    """`xid`: of the request to commit."""
    yield _control(xid, number, _COMMIT)
    for zone in plan.flush_again:
        xid += 1
        yield nicira.flush_zone(xid, zone)
    for meter_id in plan.meters_delete:
        xid += 1
        yield wire.delete_meter(xid, meter_id)


def _control(xid: int, number: int, kind: int) -> bytes:
    return _CONTROL_MESSAGE.pack(packing.VERSION, _CONTROL, _CONTROL_MESSAGE.size, xid, number, kind, _FLAGS)


def _deletions(first: int, plan: Plan) -> Iterator[bytes]:
    for xid, cookie in enumerate(plan.delete, first):
        yield packing.delete(xid, cookie, cookies.EXACT)
    for xid, forget in enumerate(plan.forget, first + len(plan.delete)):
        yield _forget(xid, forget)


def _wrapped(message: bytes, number: int, xid: int) -> bytes:
    return _ADD_MESSAGE.pack(packing.VERSION, _ADD, _ADD_MESSAGE.size + len(message), xid, number, 0, _FLAGS) + message


def _adds(xid: int, number: int, rows: Iterable[Pair]) -> Iterator[bytes]:
    """Messages; of a sheet or a print, some at once. `xid`: of the first; those that follow count on."""
    for batch in additions.of(rows).batches:
        if isinstance(batch, Run):
            splice, cookies_of_run, indices = _splicing(batch.sheet, number), batch.cookies, batch.indices
            for at in range(0, len(batch), _AT_ONCE):
                yield splice(xid + at, cookies_of_run[at:at + _AT_ONCE], indices[at:at + _AT_ONCE])
        elif isinstance(batch, Imprint):
            yield prints.adds(_add, number, xid, batch)
        else:
            for at, (cookie, row) in enumerate(batch, xid):
                yield _add(number, at, cookie, flow_of(row))
        xid += len(batch)


def _add(number: int, xid: int, cookie: int, flow: Flow) -> bytes:
    """The message that adds a flow, in a bundle. packing.TooLarge."""
    try:
        return _wrapped(packing.add(xid, cookie, flow), number, xid)
    except (packing.TooLarge, struct.error):  # a length that has more than 16 bits
        raise packing.TooLarge(f"no message is large enough for: {_added(flow)}") from None


def _splicing(sheet: Sheet, number: int) -> Callable[[int, Sequence[int], Sequence[int]], bytes]:
    """The function (first xid, cookies, indices of rows) -> the messages of these rows in a bundle."""
    whole = _add(number, 0, 0, sheet.model)
    width = (sheet.field.bits + 7) // 8
    value_at = _ADD_MESSAGE.size + packing.place(sheet.model.match, sheet.field)
    head, between, before = whole[:4], whole[8:_XID], whole[_COOKIE + 8:value_at]
    behind, values, outputs = whole[value_at + width:], sheet.values, sheet.outputs
    layout = f"!4sI{len(between)}sIQ{len(before)}s{width}s"
    if outputs is None:
        pack = struct.Struct(f"{layout}{len(behind)}s").pack
        return lambda first, known, rows: b"".join([
            pack(head, xid, between, xid, cookie, before, values[index].to_bytes(width), behind)
            for xid, cookie, index in zip(range(first, first + len(rows)), known, rows, strict=True)])
    middle, rest = behind[:_PORT], behind[_PORT + 4:]
    pack = struct.Struct(f"{layout}{len(middle)}sI{len(rest)}s").pack
    return lambda first, known, rows: b"".join([
        pack(head, xid, between, xid, cookie, before, values[index].to_bytes(width), middle, outputs[index], rest)
        for xid, cookie, index in zip(range(first, first + len(rows)), known, rows, strict=True)])


def _forget(xid: int, forget: Forget) -> bytes:
    criteria = []
    if forget.vlan is not None:
        # A delete finds what compares at least its bits (6.4), and a learned row compares these twelve.
        criteria.append(f.VLAN_VID(forget.vlan, _VLAN_ID_BITS))
    if forget.mac is not None:
        criteria.append(f.ETH_DST(forget.mac))
    out_port = packing.ANY_PORT if forget.ofport is None else forget.ofport
    cookie, mask = cookies.LEARNED_COOKIE, cookies.KIND_MASK
    if forget.source is not None:
        cookie, mask = cookie | forget.source, cookies.EXACT
    return packing.delete(xid, cookie, mask, Match(tuple(criteria)), out_port)
