"""What is said to switches at once: in which order and pieces, and what happens when one takes nothing."""
from __future__ import annotations

from queue import Queue
from typing import Any

from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from controller.switch.events import Learn, Log, PacketOut, Unlearn
from controller.switch.outbox import in_turns, send
from flows import fields as f
from flows.host import RouterLeg
from flows.routed_learned import neighbour, nobody
from flows.router import Leg
from flows.tables import LEAVE

LEG = Leg("qr-a", "fa:16:3e:00:00:01", ())
ROW = neighbour(RouterLeg("qr-a", 5, 1, "blue", "r1 on blue", 7), LEG, 0x0A000107, "02:00:00:00:00:07")


class Connection(ProtocolDesc):  # type: ignore[misc]
    """As much of os-ken's as is used: a queue of pieces that a switch drains, or does not."""

    def __init__(self) -> None:
        super().__init__(5)
        self.send_q: Queue[bytes] | None = Queue(16)
        self.xid = 0

    def set_xid(self, message: Any) -> None:
        self.xid += 1
        message.set_xid(self.xid)

    def send(self, data: bytes) -> None:
        assert self.send_q is not None
        self.send_q.put_nowait(data)  # a full queue would make the sender wait


def packet(conn: object) -> PacketOut:
    return PacketOut(conn, bytes(60), (f.REG_LEAVES_BY(5),), LEAVE)


def test_what_is_said_to_one_switch_in_a_row_is_one_piece_and_everything_keeps_its_order() -> None:
    one, two, log = Connection(), Connection(), Log("info", "between")
    said = [packet(one), Learn(one, ROW), packet(two), log, packet(two)]
    assert list(in_turns(said)) == [said[:2], said[2:3], log, said[4:]]


def test_a_piece_holds_every_message_in_order() -> None:
    conn = Connection()
    assert send(conn, [Learn(conn, ROW), packet(conn), Unlearn(conn, nobody(5, 0x0A000107))]) == 0
    assert conn.send_q is not None
    data, kinds = conn.send_q.get_nowait(), []
    while data:
        kinds.append(data[1])
        data = data[int.from_bytes(data[2:4], "big"):]
    assert kinds == [14, 13, 14]  # flow-mod, packet-out (OpenFlow 1.4, 7.1)


def test_packets_for_a_switch_that_takes_nothing_are_lost_and_fill_no_memory() -> None:
    conn = Connection()
    lost = sum(send(conn, [packet(conn), packet(conn)]) for _ in range(100))
    assert lost == 2 * (100 - 16)
    assert conn.send_q is not None
    assert conn.send_q.qsize() == 16


def test_nothing_is_said_to_a_switch_that_has_gone() -> None:
    conn = Connection()
    conn.send_q = None
    assert send(conn, [Learn(conn, ROW), packet(conn)]) == 2
