"""Our bytes to a real Open vSwitch and its answers in our values, without a daemon between."""
from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from controller.switch import answers, bundles, dumps, framing, wire
from controller.switch.audit import Audit
from controller.switch.damage import Finding
from controller.switch.diff import Plan, diff
from flows.cookie import cookie_of
from flows.flow import Flow, Metered
from flows.host import Meter
from flows.text import line
from tests.private_ovs import OpenFlow, PrivateOvs

BRIDGE = "br-test"
MORE = 1  # OFPMPF_REPLY_MORE


class Counting(ProtocolDesc):  # type: ignore[misc]  # os-ken has no types
    """What os-ken's serialisers need of a connection."""

    xid = 0

    def __init__(self) -> None:
        super().__init__(wire.VERSION)

    def set_xid(self, message: object) -> int:
        self.xid += 1
        message.set_xid(self.xid)  # type: ignore[attr-defined]
        return self.xid

    def bytes(self, message: Any) -> bytes:
        """A message, serialised."""
        self.set_xid(message)
        message.serialize()
        return bytes(message.buf)


def heard(connection: OpenFlow) -> Any:
    """The next message that the daemon would read, as it reads it."""
    while True:
        kind, xid, body = connection.message()
        whole = struct.pack("!BBHI", wire.VERSION, kind, 8 + len(body), xid) + body
        # os-ken hands over a part of its buffer, and that is a bytearray.
        if (message := answers.read(Counting(), wire.VERSION, kind, len(whole), xid, bytearray(whole))) is not None:
            return message


def asked(connection: OpenFlow, request: Any) -> list[Any]:
    """The bodies of all parts of the answer to a multipart request; rows of flows as they stand there."""
    connection.send(Counting().bytes(request))
    found: list[Any] = []
    while True:
        part = heard(connection)
        found += dumps.whole(part.body) if isinstance(part.body, bytes) else part.body
        if not part.flags & MORE:
            return found


def doubtful(ovs: PrivateOvs, flows: tuple[Flow, ...]) -> list[Finding]:
    """Which of these flows the switch does not hold as they were sent, by what its rows match and do."""
    with ovs.openflow(BRIDGE) as connection:
        rows = asked(connection, wire.read_flows(Counting()))
    audit = Audit({cookie_of(flow): flow for flow in flows}.get)
    return [*audit.rows(map(dumps.content, rows)), *audit.missing({cookie_of(flow) for flow in flows})]


def dumped(rows: Iterable[bytes]) -> bytes:
    """A part of a dump that holds these rows."""
    return bytes(framing.MULTIPART_HEADER) + b"".join(rows)


def bundle_bytes(connection: Counting, number: int, plan: Plan) -> bytes:
    """A plan's bundle, whole."""
    bundle = bundles.bundle(connection, number, plan)
    return b"".join(bundle.staged) + bundle.final


def send(ovs: PrivateOvs, plan: Plan) -> dict[str, tuple[int, int]]:
    """Commit a plan in one bundle; what was refused, by the words of its blame."""
    bundle = bundles.bundle(Counting(), 1, plan)
    (commit,) = (xid for xid, word in bundle.blame.items() if word == "commit")
    with ovs.openflow(BRIDGE) as connection:
        errors = connection.commit(b"".join(bundle.staged) + bundle.final, commit)
    return {bundle.blame[xid]: error for xid, error in errors.items()}


def canonical(dumped: str) -> str:
    """ovs-ofctl's line in our order: it leaves `table=0` out and puts a space after the table."""
    found = re.fullmatch(r"cookie=(0x[0-9a-f]+), (?:table=(\d+), )?(.*)", dumped)
    assert found, dumped
    return f"cookie={found[1]}, table={found[2] or 0},{found[3]}"


def held(ovs: PrivateOvs) -> list[str]:
    return sorted(canonical(dumped) for dumped in ovs.dump(BRIDGE))


def texts(flows: tuple[Flow, ...]) -> list[str]:
    return sorted(f"cookie={cookie_of(flow):#x}, {line(flow)}" for flow in flows)


def plan_for(flows: tuple[Flow, ...]) -> Plan:
    """What an empty switch needs for these flows: their meters, too."""
    meters = {action.meter for flow in flows for action in flow.actions if isinstance(action, Metered)}
    return replace(diff({cookie_of(flow): flow for flow in flows}, ()),
                   meters_add=tuple(Meter(number, 100, 50) for number in sorted(meters)))
