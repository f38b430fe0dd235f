"""What is said to a switch at once and beside all reconciling: packets for its tables, and learned neighbours."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from controller.switch import nicira, wire
from controller.switch.events import Command, End, Learn, PacketOut, Unlearn

Said = PacketOut | Learn | Unlearn | End


def in_turns(commands: Iterable[Command]) -> Iterator[Command | list[Said]]:
    """The same commands in the same order; what is said to one switch in a row is one list."""
    for conn, some in groupby(commands, lambda command: command.conn if isinstance(command, Said) else None):
        if conn is None:
            yield from some
        else:
            yield [command for command in some if isinstance(command, Said)]


def packed(conn: Any, said: Iterable[Said]) -> bytes:
    """These as messages, in one piece. `conn` gives transaction ids."""
    return b"".join(_bytes(conn, one) for one in said)


def _bytes(conn: Any, command: Said) -> bytes:
    match command:
        case PacketOut(_, data, registers, table):
            return wire.packet_out(wire.next_xid(conn), data, registers, table)
        case Learn(_, flow):
            return wire.learn(wire.next_xid(conn), flow)
        case Unlearn(_, flow):
            return wire.unlearn(wire.next_xid(conn), flow)
        case End(_, ended):
            return nicira.ct_flush(ended.zone, ended.asked, ended.shown)
