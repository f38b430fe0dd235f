"""The one place that reads what is in a switch's tables from its bytes (OpenFlow 1.4), without os-ken's objects.

Nothing here trusts a length: `framing.Broken` says that one leads astray.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controller.switch import framing

INITIAL, ADDED, REMOVED, MODIFIED, ABBREVIATED, PAUSED, RESUMED = range(7)  # events of a flow monitor (7.3.5.17.2)
_UPDATE: Final = struct.Struct("!HH")  # length, event
_FULL: Final = struct.Struct("!BBHHH4xQ")  # table, reason, timeouts, priority, cookie
_MATCH: Final = struct.Struct("!HH")  # type, length


@dataclass(frozen=True, slots=True)
class Update:
    """What a flow monitor says of one flow: as it is now, or was when it went.

    ABBREVIATED: a change of our own, by the message of this transaction id. PAUSED: the switch holds updates back,
    and may leave out some; RESUMED: from here on it tells all again.
    """

    event: int
    table: int = 0
    priority: int = 0
    cookie: int = 0
    match: bytes = b""  # its fields, without header and padding
    instructions: bytes = b""
    reason: int = 0  # REMOVED: as of a flow-removed message; 2 is a deletion
    timeouts: tuple[int, int] = (0, 0)  # seconds: idle, hard
    xid: int = 0


def updates(message: bytes) -> Iterator[Update]:
    """What a part of a flow monitor's answer says; `answers` has walked it."""
    at = framing.MULTIPART_HEADER
    while at < len(message):
        length, event = _UPDATE.unpack_from(message, at)
        if event in framing.NAMES_FLOW:
            yield _full(event, message[at:at + length])
        else:
            yield Update(event, xid=int.from_bytes(message[at + 4:at + 8]) if event == ABBREVIATED else 0)
        at += length


def _full(event: int, update: bytes) -> Update:
    table, reason, idle, hard, priority, cookie = _FULL.unpack_from(update, _UPDATE.size)
    _, length = _MATCH.unpack_from(update, framing.FULL)
    behind = framing.FULL + (length + 7) // 8 * 8
    return Update(event, table, priority, cookie, update[framing.FULL + _MATCH.size:framing.FULL + length],
                  update[behind:], reason, (idle, hard))
