"""What stops frames, with its counter: drop rows of the switches, and rules of iptables inside the hypervisors."""
from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from controller.model.topology import Port, Topology
from controller.switch.meters import RATE
from controller.tools import lab
from controller.tools.client import ask
from controller.tools.rundir import Rundir
from flows.tables import BR_INT, DELIVER, table

Json = dict[str, Any]
Key = tuple[str, ...]

_PATIENCE: Final = 20.0  # seconds for a command in a hypervisor
_HANDS: Final = 8  # threads
_COUNTED: Final = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)-j (\S+)")  # iptables-save -c
_METER: Final = re.compile(r"meter:(\d+) .*\n0: packet_count:(\d+)")  # ovs-ofctl meter-stats
_METERED: Final = f"at most {RATE} packets a second of one sender reach the daemon"
_COMMENT: Final = re.compile(r'--comment (?:"([^"]*)"|(\S+)) ?')
CHAIN: Final = "neutron-openvswi-"
_FALLBACK: Final = f"{CHAIN}sg-fallback"
_PORT_CHARS: Final = 10  # of a port's id, in the name of a chain
SAVES: Final = ("iptables-save", "ip6tables-save")
_CHAINS: Final = {  # the letter of a port's chain -> what it is for, in its last rules
    "i": "no rule of its groups lets this in", "o": "no rule of its groups lets it send this",
    "s": "it shows a MAC or an address that is not its own"}


@dataclass(frozen=True)
class Stopper:
    """A flow or a rule, and how many packets it has counted."""

    kind: str  # flow | iptables | meter | server
    host: str
    place: str  # `br-int table 25 mac-spoof`, or `iptables` and a chain
    match: str
    why: str
    origin: str  # a path of the topology, or `pipeline`
    counter: int
    drops: bool = True  # False: it hands frames on, within their own network alone

    def document(self) -> Json:
        """As plain values for JSON."""
        return {"kind": self.kind, "host": self.host, "place": self.place, "match": self.match, "why": self.why,
                "counter": self.counter}


@dataclass(frozen=True)
class Reading:
    """All that counted, at one moment."""

    stoppers: Mapping[Key, Stopper]
    learned: tuple[Json, ...]  # rows that the switches have learned: host, bridge, table, match

    def over(self, older: Reading, hosts: Iterable[str]) -> Reading:
        """What is known in all after these hosts alone were read again."""
        again = set(hosts)
        kept = {key: one for key, one in older.stoppers.items() if one.host not in again}
        learned = tuple(row for row in older.learned if row["host"] not in again)
        return Reading({**kept, **self.stoppers}, (*learned, *self.learned))

    def risen(self, before: Reading) -> list[Stopper]:
        """What has counted since, by how much."""
        found = []
        for key, one in self.stoppers.items():
            old = before.stoppers.get(key)
            # A switch that was started anew counts from nothing.
            rise = one.counter - old.counter if old is not None and old.counter <= one.counter else one.counter
            if rise:
                found.append(replace(one, counter=rise))
        return found


def read(topology: Topology, where: Rundir, hosts: Iterable[str]) -> Reading:
    """The counters of these hosts, as they are now: what the switches had not counted yet is waited for."""
    names = list(hosts)
    with ThreadPoolExecutor(_HANDS) as pool:
        list(pool.map(lambda host: _in(where, host, "ovs-appctl", "revalidator/wait"), names))
        bridges = [bridge for host in names for bridge in ask(where, {"do": "flows", "host": host})["bridges"]]
        chains = list(pool.map(lambda host: of_iptables(topology, where, host), names)) if topology.has_qbr() else []
        asking = [host for host in names if host in topology.numbers_by_host]
        meters = list(pool.map(lambda host: dict(_meters(where, host)), asking))
    stoppers = {key: one for bridge in bridges for key, one in _rows(bridge)}
    for found in (*chains, *meters):
        stoppers |= found
    learned = tuple({"host": bridge["host"], "bridge": bridge["bridge"], "table": flow["table"],
                     "match": flow["match"], "seconds": flow["seconds"]} for bridge in bridges
                    for flow in bridge["flows"] if flow.get("status") == "learned")
    return Reading(stoppers, learned)


def _rows(bridge: Json) -> Iterator[tuple[Key, Stopper]]:
    for flow in bridge["flows"]:
        drops = flow["actions"] == "drop"
        keeps = bridge["bridge"] == DELIVER.bridge and flow["table"] == DELIVER.id
        if flow.get("status") == "installed" and (drops or keeps):
            place = f"{bridge['bridge']} table {flow['table']} {table(bridge['bridge'], flow['table']).name}"
            yield ((bridge["host"], bridge["bridge"], flow["cookie"]),
                   Stopper("flow", bridge["host"], place, flow["match"], flow["why"], flow["origin"],
                           flow["packets"], drops))


def _meters(where: Rundir, host: str) -> Iterator[tuple[Key, Stopper]]:
    """The meters before the daemon, and how many packets they have kept from it."""
    text = _in(where, host, "ovs-ofctl", "-O", "OpenFlow14", "meter-stats", BR_INT) or ""
    for number, dropped in _METER.findall(text):
        yield ((host, "meter", number),
               Stopper("meter", host, f"{BR_INT} meter {number}", "", _METERED, "pipeline", int(dropped)))


# ---- iptables

def of_iptables(topology: Topology, where: Rundir, host: str) -> dict[Key, Stopper]:
    """The rules that drop what the VMs of a lab's hypervisor send or would hear."""
    ports, found = by_chain(topology, host), dict[Key, Stopper]()
    for command in SAVES:
        text = _in(where, host, command, "-c", "-t", "filter") or ""
        found.update(rules_of(text, command.removesuffix("-save"), host, ports))
    return found


def by_chain(topology: Topology, host: str) -> dict[str, Port]:
    """The ports of a host by what their chains are called, behind the letter."""
    return {str(port.id)[:_PORT_CHARS]: port for port in topology.ports_by_host.get(host, ())}


def rules_of(saved: str, program: str, host: str, ports: Mapping[str, Port]) -> Iterator[tuple[Key, Stopper]]:
    """The rules of ports' chains that drop, out of what `iptables-save -c` printed; `ports` by the chain's suffix.

    `program`: iptables or ip6tables.
    """
    twins: Counter[tuple[str, str]] = Counter()
    for line in saved.splitlines():
        counted = _COUNTED.match(line)
        if counted is None or counted[4] not in ("DROP", _FALLBACK):
            continue
        chain = counted[2]
        kind, suffix = chain.removeprefix(CHAIN)[:1], chain.removeprefix(CHAIN)[1:]
        port = ports.get(suffix)
        if not chain.startswith(CHAIN) or port is None or kind not in _CHAINS:
            continue
        comment = _COMMENT.search(counted[3])
        match = _COMMENT.sub("", counted[3]).replace("-m comment", "").strip()
        why = f"{port.name}: {_why(kind, match, comment)}"
        twins[chain, match] += 1  # equal rules may stand twice; other rules come and go between them
        yield ((host, program, chain, match, str(twins[chain, match])),
               Stopper("iptables", host, f"{program} {chain}", match, why, port.path, int(counted[1])))


def _why(kind: str, match: str, comment: re.Match[str] | None) -> str:
    if comment is not None:
        return comment[1] or comment[2]
    if "INVALID" in match:
        return "it belongs to no conversation"
    if "connmark" in match:
        return "no rule allows this conversation any more"
    return _CHAINS[kind] if not match else f"a VM may not send this ({match})"


def _in(where: Rundir, host: str, *command: str) -> str | None:
    """What a command prints in a hypervisor; None if it fails."""
    argv, environment = lab.exec_argv(where.path, host, command)
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False,
                              stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
