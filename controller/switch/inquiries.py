"""What switches are asked for, and who waits for the answer: the daemon itself, or a person.

A dump of many flows would hold a switch for as long as it takes, so it is asked for in parts that follow each other.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import eventlet
from eventlet.event import Event
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import answers, dumps, framing, listing, wire
from controller.switch.dumps import Content
from controller.switch.events import Counted, Row
from controller.switch.found import Found
from controller.switch.questions import Portion, Unanswerable
from flows.host import Meter
from flows.tables import Table

_PATIENCE: Final = 30  # seconds that a person waits for a switch
_AT_ONCE: Final = 5000  # flows of a switch that are asked for in one
_PART: Final = 7000  # work of a part, where there are more: flows told, and looked at
_LOOKED_AT: Final = 20  # for each part the switch looks at all that it has, which is so many times quicker than telling
_MOST_PARTS: Final = 64
_UNCOUNTED: Final = 100_000  # flows that a switch is taken to have which does not count them
_BREATH: Final = 100  # rows that are put into words before anybody else may do something

Send = Callable[[Any, bytes], object]
Read = Callable[[Found, list[Meter]], object]
Early = Callable[[Found], object]


@dataclass(frozen=True)
class _Question:
    """A message that the switch answers, in one part or in several."""

    part: Callable[[Any], object]
    whole: Callable[[], object]
    failed: Callable[[str], object]


class Inquiries:
    """Of all switches. `send` puts bytes on their way to one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: dict[tuple[Any, int], _Question] = {}  # (connection, transaction id)
        self._readings: dict[Any, _Reading] = {}  # connection -> the latest

    # ---- what the daemon asks

    def ask(self, conn: Any, message: Any, part: Callable[[Any], object] = lambda _: None,
            whole: Callable[[], object] = lambda: None, failed: Callable[[str], object] = lambda _: None) -> int:
        """Send an os-ken message. `part` gets each part of the answer, `whole` is called after the last of them.

        `failed` gets the reason why there is none. Returns the transaction id.
        """
        xid = wire.next_xid(conn)
        message.set_xid(xid)
        message.serialize()
        self._open[conn, xid] = _Question(part, whole, failed)
        self._send(conn, bytes(message.buf))
        return xid

    def read(self, conn: Any, meters: bool, done: Read, early: Early = lambda _: None) -> None:
        """All flows of a switch, and its meters if they are wanted. Who reads anew lets go of what was read before.

        `early`: where there are many, told first of those rows that say which local VLANs are in use.
        """
        reading = self._readings[conn] = _Reading(done, early)
        if meters:
            reading.requests.append(wire.read_meters(conn))
        reading.requests.append(wire.count_tables(conn))
        self._read_on(conn, reading)

    def _read_on(self, conn: Any, reading: _Reading, why: str = "") -> None:
        """The next question of a reading. Without an answer, a switch has no meters, and has no few flows."""
        if self._readings.get(conn) is not reading:
            return
        if reading.requests:
            self.ask(conn, reading.requests.popleft(), reading.take, lambda: self._read_on(conn, reading),
                     lambda reason: self._read_on(conn, reading, reason))
        else:
            count = _UNCOUNTED if why else reading.count
            reading.requests.extend(_requests(conn, count))
            if count > _AT_ONCE:
                self._read_vlans(conn, reading)
            self._read_rows(conn, reading)

    def _read_vlans(self, conn: Any, reading: _Reading) -> None:
        """Ask for the rows that say which local VLANs are in use: they are few, and come again with the others."""
        found, tables = Found(), sorted(dumps.TO_VLAN)

        def told() -> None:
            if self._readings.get(conn) is reading:
                reading.early(found)

        for table in tables:
            self.ask(conn, wire.read_flows(conn, table), lambda reply: dumps.take(reply.body, found),
                     told if table == tables[-1] else lambda: None)

    def _read_rows(self, conn: Any, reading: _Reading) -> None:
        """The next part of the flows. The switch looks for it while the end of what it has said is read.

        Not sooner: a request that is there before the switch has sent all of the last answer is answered in the
        same breath, and packets wait for both.
        """
        def part(reply: Any) -> None:
            last = not reply.flags & ofp.OFPMPF_REPLY_MORE
            if last and reading.requests and self._readings.get(conn) is reading:
                self._read_rows(conn, reading)
            dumps.take(reply.body, reading.found)

        def whole() -> None:
            reading.open -= 1
            if not reading.open and self._readings.get(conn) is reading:
                del self._readings[conn]
                reading.done(reading.found, reading.meters)

        reading.open += 1
        self.ask(conn, reading.requests.popleft(), part, whole)

    # ---- what people ask

    def dump(self, conn: Any, known: Callable[[Content], bool] = lambda _: False,
             portion: Portion | None = None) -> list[Row]:
        """All flows of a switch, or a portion, as rows for people; waits for the answer. Unanswerable if none comes.

        Rows that are `known` have no text: whoever knows them has better words.
        """
        if portion is None:
            requests = _requests(conn, sum(self.tally(conn).values()))
        else:
            requests = iter((wire.read_flows(conn, portion.table, portion.group, portion.mask),))
        rows = (row for request in requests for part in self._wait(conn, request) for row in dumps.whole(part))
        return [listing.row(row, known) for row in _breathing(rows)]

    def tally(self, conn: Any) -> dict[int, int]:
        """How many flows there are in each table that has any; waits as `dump` does."""
        parts = self._wait(conn, wire.count_tables(conn))
        return {table: count for part in parts for table, count in dumps.tally(part)}

    def count(self, conn: Any, tables: Iterable[Table]) -> dict[int, Counted]:
        """Cookie -> counters of the flows in these tables; waits as `dump` does."""
        found: dict[int, Counted] = {}
        for table in tables:
            for part in self._wait(conn, wire.read_flows(conn, table.id)):
                found.update(dumps.counted(part))
        return found

    def _wait(self, conn: Any, request: Any) -> list[Any]:
        """The bodies of all parts of the answer."""
        bodies: list[Any] = []
        arrived = Event()
        xid = self.ask(conn, request, lambda reply: bodies.append(reply.body), arrived.send,
                       lambda reason: arrived.send_exception(_unanswered(reason)))
        patience = eventlet.Timeout(_PATIENCE)
        try:
            arrived.wait()
        except eventlet.Timeout:
            sentence = f"The switch did not answer within {_PATIENCE} s; is its ovs-vswitchd running?"
            raise Unanswerable(sentence, missing=True) from None
        finally:
            patience.cancel()
            self._open.pop((conn, xid), None)
        return bodies

    # ---- what switches answer

    def answered(self, message: Any) -> None:
        """A part of an answer. answers.Unreadable if it makes no sense."""
        key = message.datapath, message.xid  # another switch may count its transactions alike, or guess them
        question = self._open.get(key)
        if question is None:
            return
        try:
            question.part(message)
        except framing.Broken as error:
            raise answers.Unreadable(f"a part of a dump makes no sense: {error}") from error
        if not message.flags & ofp.OFPMPF_REPLY_MORE:
            del self._open[key]
            question.whole()

    def refused(self, conn: Any, xid: int, reason: str) -> bool:
        """The switch complains about a message; whether that was a question of ours."""
        question = self._open.pop((conn, xid), None)
        if question:
            question.failed(reason)
        return question is not None

    def forget(self, conn: Any) -> None:
        """A connection is over."""
        self._readings.pop(conn, None)
        for key in [key for key in self._open if key[0] is conn]:
            self._open.pop(key).failed("the connection has ended")


@dataclass
class _Reading:
    """A dump under way."""

    done: Read
    early: Early
    requests: deque[Any] = field(default_factory=deque)
    found: Found = field(default_factory=Found)
    meters: list[Meter] = field(default_factory=list)
    count: int = 0  # how many flows there are
    open: int = 0  # such requests whose answer is not whole

    def take(self, reply: Any) -> None:
        """How many flows there are, or meters."""
        if isinstance(reply, parser.OFPTableStatsReply):
            self.count += sum(count for _, count in dumps.tally(reply.body))
        else:
            self.meters += answers.meters(reply.body).values()


def _unanswered(reason: str) -> Unanswerable:
    return Unanswerable(f"The switch gave no answer: {reason}.", missing=True)


def _requests(conn: Any, count: int) -> Iterator[Any]:
    """The requests that together ask for every flow: parted by the lowest bits of cookies, as digests spread evenly."""
    parts = 1 if count <= _AT_ONCE else 2
    while parts > 1 and count / parts + count / _LOOKED_AT > _PART and parts < _MOST_PARTS:
        parts *= 2
    for group in range(parts):
        yield wire.read_flows(conn, cookie=group, mask=parts - 1) if parts > 1 else wire.read_flows(conn)


def _breathing(rows: Iterable[bytes]) -> Iterator[bytes]:
    """The same, with a moment for others now and then."""
    for at, row in enumerate(rows, 1):
        yield row
        if at % _BREATH == 0:
            eventlet.sleep(0)
