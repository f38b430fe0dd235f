"""What healing asks of switches, and what they tell: requests to bytes, and answers to its values. Decides nothing."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

import eventlet

from controller.switch import dumps, sockets, wire
from controller.switch.dumps import Content
from controller.switch.events import Command, Count, Inspect, Watch
from controller.switch.healing import Healing
from controller.switch.inquiries import Inquiries

_BREATH: Final = 50  # rows that are looked at before anybody else may do something


class Watching:
    """Of all switches. `obey` carries out commands; `now` is the time of the daemon's clock."""

    def __init__(self, healing: Healing, inquiries: Inquiries, obey: Callable[[Iterable[Command]], None],
                 now: Callable[[], float]) -> None:
        self._healing = healing
        self._inquiries = inquiries
        self._obey = obey
        self._now = now
        self._monitors: set[tuple[Any, int]] = set()  # (connection, transaction id) of those that are not set yet

    def do(self, command: Watch | Count | Inspect) -> None:
        """Ask a switch."""
        conn = command.conn
        match command:
            case Watch(_, monitors):
                for one in monitors:
                    request = wire.watch(conn, one.number, one.table.id, one.match)
                    xid = self._inquiries.ask(conn, request)
                    self._monitors.add((conn, xid))
            case Count(_, cookie, mask):
                request = wire.count_flows(conn, cookie, mask)
                self._inquiries.ask(conn, request, part=partial(self._counted, command))
            case Inspect(_, cookie, mask):
                bodies: list[Any] = []
                self._inquiries.ask(conn, wire.read_flows(conn, cookie=cookie, mask=mask),
                                    part=lambda reply: bodies.append(reply.body),
                                    whole=lambda: self._look(command, bodies))

    def told(self, message: Any) -> None:
        """A flow monitor has something to say, or has been set."""
        self._monitors.discard((message.datapath, message.xid))
        self._healing.told(message.datapath, dumps.updates(message.body), self._now())
        self._inquiries.answered(message)
        self._obey(())

    def refused(self, conn: Any, xid: int) -> bool:
        """The switch complains about a message; whether that was for a monitor, of which it need not know."""
        if (conn, xid) not in self._monitors:
            return False
        self._monitors.discard((conn, xid))
        self._obey(self._healing.blind(conn))
        return True

    def forget(self, conn: Any) -> None:
        """A connection is over."""
        self._monitors = {one for one in self._monitors if one[0] is not conn}

    def _counted(self, asked: Count, reply: Any) -> None:
        self._healing.counted(asked.conn, asked, reply.body.flow_count, self._now())
        self._obey(())

    def _look(self, asked: Inspect, bodies: Iterable[Any]) -> None:
        """In a greenlet of its own: it takes a while, and all else goes on."""
        def look() -> None:
            self._healing.inspected(asked.conn, asked, _breathing(bodies), self._now())
            self._obey(())

        eventlet.spawn(sockets.guarded, "rows not looked at", look)


def _breathing(bodies: Iterable[Any]) -> Iterator[Content]:
    """What is in these parts of a dump, with a moment for others now and then."""
    rows = (row for body in bodies for row in dumps.contents(body))
    for at, row in enumerate(rows, 1):
        yield row
        if at % _BREATH == 0:
            eventlet.sleep(0)
