"""Lengths inside OpenFlow messages: what is walked cannot hold os-ken's parsers forever."""
from __future__ import annotations

import random
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from controller.switch import answers, dumps, framing, listing, packing
from controller.switch.found import Found
from flows import fields as f
from flows import tables as t
from flows.flow import Clone, Conjunction, LearnPort, Output, OutputTo, Resubmit, SetField, Track

XID = 7
HELLO = struct.pack("!HHI", 1, 8, 1 << 5)
PORT = struct.pack("!IH2x6s2x16sII", 1, 72, b"\2\0\0\0\0\1", b"tap1", 0, 4) + struct.pack("!HH4x6I", 0, 32, *[0] * 6)
MATCH = struct.pack("!HHIIII", 1, 20, 0x80000004, 1, 0x00010004, 7) + bytes(4)  # in_port=1,reg0=7
NICIRA = b"".join((
    struct.pack("!HHIHHHI6x", 0xFFFF, 24, 0x2320, 49, 1464, 0, 0x00011004),  # check_pkt_larger(1464)->reg8[0]
    struct.pack("!HHIH6xHHI", 0xFFFF, 24, 0x2320, 37, 5, 8, 3),  # controller(meter_id=3), strange to os-ken
    struct.pack("!HHIHHHHQHBxHHHIHIH10x", 0xFFFF, 56, 0x2320, 16, 0, 300, 2, 0x54, 0, 20, 0, 0,  # learn
                48, 0x00000406, 0, 0x00000206, 0),
    struct.pack("!HHIH2xHHI4x", 0xFFFF, 24, 0x2320, 36, 1, 1, 0x0A000001)))  # nat(src=10.0.0.1)
ACTIONS = (struct.pack("!HHIH6x", 0, 16, 1, 65535)  # output
           + struct.pack("!HHIHHIHB5x", 0xFFFF, 40, 0x2320, 35, 1, 0, 0, 255)[:24]  # ct(commit)...
           + struct.pack("!HHIH6x", 0, 16, 2, 65535) + NICIRA)  # ...with an output in it


def flow(actions: bytes) -> bytes:
    body = (struct.pack("!BxIIHHHHH2xQQQ", 60, 1, 0, 9, 0, 0, 0, 0, 5, 0, 0)
            + struct.pack("!HHIB3x", 1, 12, 0x80000004, 1)[:16].ljust(16, b"\0")
            + struct.pack("!HH4x", 4, 8 + len(actions)) + actions + struct.pack("!HHB3x", 1, 8, 5))
    return struct.pack("!H", 2 + len(body)) + body


FLOW = flow(ACTIONS)
FIREWALL = flow(packing.actions_bytes((
    Clone((SetField(f.REG_OUT_PORT(5)), Output(1), Clone((Resubmit(t.BASE_INGRESS),)))),
    LearnPort(t.BEHIND, "learned", 300, 5, 64), OutputTo(f.REG_OUT_PORT), Conjunction(3, 1, 2),
    Track(f.REG_ZONE, None, commit=True))))
# 7.3.5.17.2: ofp_flow_update_full of a flow that was added, with its match and one goto
UPDATE = (struct.pack("!HHBBHHH4xQ", 48, 1, 3, 0, 30, 60, 7, 0x54) + struct.pack("!HHIB3x", 1, 9, 0x80001401, 6)
          + bytes(4) + struct.pack("!HHB3x", 1, 8, 5))
MESSAGES = {
    "hello": (0, HELLO),
    "error": (1, struct.pack("!HH", 1, 2) + bytes(64)),
    "features": (6, struct.pack("!QIBB2xII", 5, 0, 254, 0, 0, 0)),
    "port status": (12, bytes(8) + PORT),
    "ports": (19, struct.pack("!HH4x", 13, 0) + PORT * 3),
    "packet in": (10, struct.pack("!IHBBQ", 2**32 - 1, 20, 1, 58, 5) + MATCH + bytes(2) + bytes(20)),
    "flow removed": (11, struct.pack("!QHBBIIHHQQ", 5, 1, 0, 45, 1, 2, 300, 0, 7, 700) + MATCH),
    "meters": (19, struct.pack("!HH4x", 10, 0) + struct.pack("!HHIHHIII", 24, 6, 5, 1, 16, 10, 20, 0) * 3),
    "flows": (19, struct.pack("!HH4x", 1, 0) + FLOW * 3),
    "firewall": (19, struct.pack("!HH4x", 1, 0) + FIREWALL * 3),
    "table": (19, struct.pack("!HH4x", 3, 0) + struct.pack("!B3xIQQ", 20, 5, 0, 0) * 2),
    "aggregate": (19, struct.pack("!HH4x", 2, 0) + struct.pack("!QQI4x", 5, 500, 2)),
    "role": (25, struct.pack("!I4xQ", 2, 9)),
    "another role": (30, struct.pack("!IB3xQ", 3, 0, 9) + struct.pack("!HHII", 0xFFFF, 12, 1, 1)),
    "updates": (19, struct.pack("!HH4x", 16, 0) + UPDATE + struct.pack("!HHI", 8, 4, 77) + struct.pack("!HH4x", 8, 5)),
    "bundle": (33, struct.pack("!IHH", 1, 5, 1)),
}

# os-ken reads a row in a millisecond, and there are thousands of mutants.
ONE_ROW = {"flows": (19, struct.pack("!HH4x", 1, 0) + FLOW), "firewall": (19, struct.pack("!HH4x", 1, 0) + FIREWALL)}


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("!BBHI", 5, kind, 8 + len(body), XID) + body


def read(data: bytes) -> object:
    return answers.read(ProtocolDesc(answers.VERSION), data[0], data[1], len(data), XID, bytearray(data))


@contextmanager
def watchdog(seconds: int) -> Iterator[None]:
    """An endless loop ends here instead of filling the memory."""
    def bark(*_: object) -> None:
        raise KeyboardInterrupt  # not an Exception, which `read` would make its own

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_whole_message_is_read(name: str) -> None:
    found = read(message(*MESSAGES[name]))
    assert found is not None
    if name in ("ports", "meters"):
        assert len(found.body) == 3  # type: ignore[attr-defined]
    if name == "table":
        assert list(dumps.tally(found.body)) == [(20, 5), (20, 5)]  # type: ignore[attr-defined]
    if name in ("flows", "firewall"):
        assert len(list(dumps.whole(found.body))) == 3  # type: ignore[attr-defined]


def test_actions_inside_of_actions_are_read_and_listed() -> None:
    found = read(message(*MESSAGES["firewall"]))
    assert listing.row(next(dumps.whole(found.body))).actions == (  # type: ignore[attr-defined]
        "clone(set_field:0x5->reg6,output:1,clone(resubmit(,81))),learn(table=61,hard_timeout=300,priority=1,limit=64,"
        "...),output:NXM_NX_REG6[],conjunction(3,1/2),ct(commit,zone=NXM_NX_REG9[0..15]),goto_table:5")


@pytest.mark.parametrize("name", MESSAGES)
def test_no_mutant_of_a_message_holds_the_daemon(name: str, seed: int) -> None:
    """Each 16-bit word becomes zero, huge, or anything; so do a few at once; and the message ends anywhere."""
    whole, dice = message(*ONE_ROW.get(name, MESSAGES[name])), random.Random(seed)
    mutants = [whole[:at] + value + whole[at + 2:] for at in range(8, len(whole) - 1)
               for value in (b"\0\0", b"\xff\xff", b"\0\4", dice.randbytes(2))]
    mutants += [whole[:at] for at in range(8, len(whole))]
    for _ in range(300):
        mutant = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            mutant[dice.randrange(8, len(mutant))] = dice.choice((0, 1, 4, 8, 255, dice.randrange(256)))
        mutants.append(bytes(mutant))
    with watchdog(60):
        for mutant in mutants:
            try:
                found = read(mutant)
                if found and MESSAGES[name][0] == framing.MULTIPART_REPLY:
                    # Who reads a body is decided by the type that it says it has, and that may have changed, too.
                    READERS.get(framing.part(mutant), list)(found.body)  # type: ignore[attr-defined]
            except (answers.Unreadable, framing.Broken):
                continue


def every_way(body: bytes) -> None:
    """All that is read of a dump's rows. What people see never fails: it says that it is not understood."""
    rows = [listing.row(row) for row in dumps.whole(body)]
    assert len(rows) == len(list(dumps.counted(body)))
    list(dumps.contents(body))
    dumps.take(body, Found())


READERS: dict[int, Callable[[Any], object]] = {
    framing.FLOW: every_way,
    framing.FLOW_MONITOR: lambda body: list(dumps.updates(body)),
    framing.TABLE: lambda body: list(dumps.tally(body)),
}


def test_a_hello_whose_element_is_empty_is_not_walked_forever() -> None:
    with watchdog(10), pytest.raises(answers.Unreadable, match="an item of 0 bytes"):
        read(message(framing.HELLO, struct.pack("!HHI", 1, 0, 1 << 5)))


@pytest.mark.parametrize(("row", "action"), [(FLOW, struct.pack("!HHI", 0, 16, 2)),
                                             (FIREWALL, struct.pack("!HHI", 0, 16, 1))])
def test_an_action_inside_another_is_walked_too(row: bytes, action: bytes) -> None:
    inner = row.rindex(action)
    broken = row[:inner + 2] + b"\0\0" + row[inner + 4:]
    with watchdog(10):
        framing.flow(row, dumps.MATCH_AT, len(row))
        assert listing.row(broken).actions == "(not understood)"
        with pytest.raises(framing.Broken, match="an item of 0 bytes"):
            framing.flow(broken, dumps.MATCH_AT, len(broken))


def test_a_row_that_lies_about_its_length_breaks_the_dump() -> None:
    for length in (0, 8, len(FLOW) + 8):
        with watchdog(10), pytest.raises(framing.Broken, match=f"an item of {length} bytes"):
            dumps.take(bytes(16) + struct.pack("!H", length) + FLOW[2:], Found())


def test_what_a_flow_monitor_says_is_read() -> None:
    found = read(message(*MESSAGES["updates"]))
    changed, ours, paused = dumps.updates(found.body)  # type: ignore[attr-defined]
    assert changed == dumps.Update(
        dumps.ADDED, 3, 7, 0x54, match=struct.pack("!IB", 0x80001401, 6), timeouts=(30, 60),
        instructions=struct.pack("!HHB3x", 1, 8, 5))
    assert ours == dumps.Update(dumps.ABBREVIATED, xid=77)
    assert paused == dumps.Update(dumps.PAUSED)


def test_an_update_of_no_length_is_not_walked_forever() -> None:
    with watchdog(10), pytest.raises(answers.Unreadable, match="an item of 0 bytes"):
        read(message(19, struct.pack("!HH4x", 16, 0) + bytes(8)))


def test_what_we_never_ask_for_is_passed_over() -> None:
    for kind in (4, 5, 9, 21, 31, 200):
        assert read(message(kind, bytes(range(64)))) is None
    assert read(message(19, struct.pack("!HH4x", 4, 0) + bytes(64))) is None, "port statistics"
    with pytest.raises(answers.Unreadable, match="version 0x04"):
        answers.read(ProtocolDesc(answers.VERSION), 4, 5, 8, XID, struct.pack("!BBHI", 4, 5, 8, XID))
