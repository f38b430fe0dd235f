"""What is said to switches at once: in which order and pieces."""
from __future__ import annotations

from controller.switch.events import Learn, Log, PacketOut, Unlearn
from controller.switch.outbox import in_turns, packed
from flows import fields as f
from flows.host import RouterLeg
from flows.routed_learned import neighbour, nobody
from flows.router import Leg
from flows.tables import LEAVE
from tests.wirekit import Counting

LEG = Leg("qr-a", "fa:16:3e:00:00:01", ())
ROW = neighbour(RouterLeg("qr-a", 5, 1, "blue", "r1 on blue", 7), LEG, 0x0A000107, "02:00:00:00:00:07")


def packet(conn: object) -> PacketOut:
    return PacketOut(conn, bytes(60), (f.REG_LEAVES_BY(5),), LEAVE)


def test_what_is_said_to_one_switch_in_a_row_is_one_piece_and_everything_keeps_its_order() -> None:
    one, two, log = object(), object(), Log("info", "between")
    said = [packet(one), Learn(one, ROW), packet(two), log, packet(two)]
    assert list(in_turns(said)) == [said[:2], said[2:3], log, said[4:]]


def test_a_piece_holds_every_message_in_order() -> None:
    conn = Counting()
    data, kinds = packed(conn, [Learn(conn, ROW), packet(conn), Unlearn(conn, nobody(5, 0x0A000107))]), []
    while data:
        kinds.append(data[1])
        data = data[int.from_bytes(data[2:4], "big"):]
    assert kinds == [14, 13, 14]  # flow-mod, packet-out (OpenFlow 1.4, 7.1)
