"""What an attack may cost although nobody sees it: questions to the daemon, rows in the switches' tables."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from controller.model.topology import Port
from controller.switch.meters import BURST, RATE
from controller.tools.attacks import FORGED
from controller.tools.battlefield import Field
from controller.tools.client import ask
from controller.tools.counters import Reading

_SLOW: Final = 2.0  # seconds for the daemon to answer under a flood
_SPARE: Final = 50  # packets that may come to the daemon beside the attack's
_LEARNED_LIMIT: Final = 64  # MACs behind one port; the limit of br-int's own learning
_AGED: Final = 30.0  # seconds before its end in which a learned row may go by itself


def asked(field: Field) -> int:
    """How often simulated routers have asked the daemon."""
    routers = ask(field.where, {"do": "routers"})["routers"]
    return sum(router["counters"]["asked"] for router in routers)


def asked_too_much(field: Field, before: int, elapsed: float) -> Iterator[str]:
    """Complaints if the daemon was asked more often since `before` than meters allow in that many seconds."""
    began = time.monotonic()
    count = asked(field) - before
    took = time.monotonic() - began
    limit = int(RATE * (elapsed + took)) + BURST + _SPARE
    if count > limit:
        yield f"the daemon was asked {count} times; {limit} are allowed in that time"
    if took > _SLOW:
        yield f"the daemon took {took:.1f} s to answer"


def learned_too_much(field: Field, port: Port, before: Reading, after: Reading) -> Iterator[str]:
    """Complaints if more of an attacker's MACs were learned than may be, or if neighbours fell out of the tables."""
    forged = Counter((row["host"], row["bridge"], row["table"]) for row in after.learned if is_forged(row))
    for (host, bridge, table), count in sorted(forged.items()):
        limit = _limit(field, host, bridge, table) if not port.port_security else 0
        if limit is None or count > limit:
            most = "nothing limits them" if limit is None else f"{limit} are allowed"
            yield f"table {table} of {host}'s {bridge} has learned {count} forged MACs, and {most}"
    age = field.topology.mac_aging_time - _AGED
    kept = {_key(row) for row in after.learned}
    lost = [row for row in before.learned if row["seconds"] < age and not is_forged(row) and _key(row) not in kept]
    if lost:
        yield f"{len(lost)} learned MACs of neighbours were forgotten"


def _limit(field: Field, host: str, bridge: str, table: int) -> int | None:
    """How many rows a table may learn, as the switch's own database says; None: as many as come."""
    if bridge == "br-int":
        return _LEARNED_LIMIT
    row = field.run(host, "ovs-vsctl", "get", "Bridge", bridge, f"flow_tables:{table}")
    found = field.run(host, "ovs-vsctl", "get", "Flow_Table", row.strip(), "flow_limit") if row else None
    return int(found) if found and found.strip().isdigit() else None


def is_forged(row: dict[str, Any]) -> bool:
    """Whether a learned row is about a MAC of an attack's making."""
    return f"dl_dst={FORGED}:" in row["match"]


def _key(row: dict[str, Any]) -> tuple[object, ...]:
    return row["host"], row["bridge"], row["table"], row["match"]
