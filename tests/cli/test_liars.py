"""A bridge of the topology whose answers make no sense, and one that says what nobody has asked for."""
from __future__ import annotations

import struct

from tests.commands import daemon, place
from tests.fakebridge import DEMO, FLOW, MULTIPART, FakeBridge

SHORT = struct.pack("!H", 8) + bytes(64)  # a row that ends before its cookie
LONG = struct.pack("!H", 900) + bytes(64)  # and one that ends after the message


def test_a_dump_that_makes_no_sense_ends_the_connection_with_one_warning() -> None:
    with place() as rundir, daemon(rundir, DEMO, "--listen", "none") as running:
        for times, (rows, why) in enumerate(((SHORT, "an item of 8 bytes"), (LONG, "an item of 900 bytes")), 1):
            liar = FakeBridge(rundir, rows)
            liar.answers()
            assert liar.asked_for_rows
            assert running.waits_for("WARNING not OpenFlow", times)
            assert running.waits_for("WARNING disconnected switch=compute1/br-tun", times)
            assert why in running.words()
        assert "ERROR" not in running.words()


def test_a_dump_that_nobody_has_asked_for_is_not_looked_at() -> None:
    with place() as rundir, daemon(rundir, DEMO, "--listen", "none") as running:
        liar = FakeBridge(rundir, LONG)
        liar.say(MULTIPART + 1, 77, struct.pack("!HH4x", FLOW, 0) + SHORT)
        liar.answers()
        assert running.waits_for("INFO connected switch=compute1/br-tun")
        assert liar.asked_for_rows
        assert "an item of 8 bytes" not in running.words()
