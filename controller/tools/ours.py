"""Our own flows in a dump: a compiled one by its cookie, or by its shape where another host's numbers made the cookie.

Without a topology only the table is known. The cookie digests the whole flow with its numbers (VLANs, OpenFlow ports),
which are a host's own; so flows are looked up with the numbers of a freshly built host first, and with those that
`--names` tells; then without them, and told if all flows of that shape are there for one reason.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from controller.model import placement, source
from controller.model.naming import Directory
from controller.model.topology import Topology
from controller.model.tree import Node
from controller.tools import ofctl
from controller.tools.labels import Labels
from controller.tools.ofctl import Row
from flows.compile import compile_host
from flows.cookie import OWNER, cookie_of, is_compiled, is_learned, is_neighbour
from flows.flow import Flow
from flows.tables import PIPELINES, table
from flows.text import line

SOME: Final = 3  # reasons that are told where several are possible
PIPELINE: Final = "pipeline"
_NUMBER: Final = re.compile(r"(?<=out=|lan=|one=)\d+|(?<=reg\d=)\d+|(?<=reg\d\d=)\d+|conj\([^)]*\)")
_OWN: Final = re.compile(r"in_port|dl_vlan|vlan_tci|reg\d+|conj_id")  # numbers that each host allots by itself
Shape = tuple[int, int, frozenset[tuple[str, str]], tuple[str, ...]]
_STEP: Final = re.compile(r"\[(\d+)\]$")


@dataclass(frozen=True)
class Mine:
    """What is known of one flow of ours."""

    title: str
    sentence: str
    known: bool
    origin: str = ""  # FILE:LINE, or FILE and the object where the line is not known


class Ours:
    """The flows of a topology, computed when the first of them is met. None: there is no topology."""

    def __init__(self, topology: Topology | None, file: str, labels: Labels) -> None:
        self._topology, self._file, self._labels = topology, file, labels
        self._directory = Directory(topology) if topology else None
        self._flows: dict[tuple[str, str], dict[int, Flow]] | None = None
        self._by_shapes: dict[tuple[str, str], dict[Shape, list[Flow]]] = {}

    def bridge_of(self, found: Iterable[Row]) -> str:
        """The bridge whose flows most of these are, by cookie, else by which tables it has; empty if none is ours."""
        mine = [row for row in found if row.cookie is not None and row.cookie >> 56 == OWNER]
        if not mine:
            return ""
        counts = self._matched(mine)
        if not any(counts.values()):
            tables = {row.table for row in mine}
            counts = {bridge: len(tables & {one.id for one in pipeline}) for bridge, pipeline in PIPELINES.items()}
        return max(counts, key=lambda bridge: counts[bridge])

    def _matched(self, mine: list[Row]) -> dict[str, int]:
        """How many of a dump's flows each bridge's name has: by cookie, or else, where numbers differ, by shape."""
        counts: dict[str, int] = {}
        if self._topology is None:
            return counts
        cookies = {row.cookie for row in mine if row.cookie is not None and is_compiled(row.cookie)}
        for (_, bridge), flows in self._all().items():
            counts[bridge] = max(counts.get(bridge, 0), len(cookies & flows.keys()))
        if 2 * max(counts.values(), default=0) > len(cookies):
            return counts
        for at, bridge in self._all():
            shapes = self._shapes(at, bridge)
            counts[bridge] = max(counts[bridge], sum(_shape(row) in shapes for row in mine))
        return counts

    def host_of(self, found: Iterable[Row], bridge: str) -> str:
        """The host whose flows most of these are, by cookie; empty if two are as near, or there is no topology."""
        cookies = {row.cookie for row in found if row.cookie is not None and is_compiled(row.cookie)}
        if not cookies or self._topology is None:
            return ""
        counts = {at: len(cookies & flows.keys()) for (at, name), flows in self._all().items() if name == bridge}
        best = [at for at, count in counts.items() if count == max(counts.values())]
        return best[0] if len(best) == 1 else ""

    def told(self, row: Row, host: str, bridge: str) -> Mine | None:
        """None if the flow is not one of ours."""
        cookie = row.cookie
        if cookie is None or cookie >> 56 != OWNER:
            return None
        title = _title(bridge, row.table)
        if is_learned(cookie):
            return Mine(title, self._learned(row, bridge), True)
        if is_neighbour(cookie):
            return Mine(title, f"Learned by the daemon: a neighbour of a simulated router has {_mac(row)}.", True)
        if not is_compiled(cookie):
            return Mine(title, "Its cookie is of Tunbridge, but of a kind that this version does not know.", False)
        if self._topology is None:
            return Mine(title, "A flow of Tunbridge; give its --topology to know why it is there.", False)
        return self._compiled(row, title, host, bridge)

    def _learned(self, row: Row, bridge: str) -> str:
        """With the names that the topology has for what the flow says itself: its tunnel id, and with it the MAC."""
        said = {key: value for key, _, value in (action.partition("=") for action in row.actions)}
        where = self._labels.remote(bridge, said["out"]) if "out" in said else "one of this host's ports"
        mac, vlan = row.match.get("dl_dst", "a MAC"), self._labels.vlan(row.match.get("dl_vlan", "?"))
        who, network = self._labels.mac(mac), ""
        if self._directory is not None and said.get("tun", "").isdigit():
            network = self._directory.network_of(int(said["tun"]))
            owner = self._directory.who(network, mac) if network else ""
            who = f"{mac} ({owner})" if owner else who
        on = f"{network}, here {vlan.replace('local ', '')}," if network and network not in vlan else vlan
        return (f"Learned by the switch: {who} of {on} is behind {where}; forgotten {row.hard_timeout} seconds after "
                "it was heard last.")

    def _compiled(self, row: Row, title: str, host: str, bridge: str) -> Mine:
        found = self._by_cookie(row.cookie or 0, host, bridge) or self._by_shape(row, host, bridge)
        if len(found) > 1:
            either = "; or ".join(sorted(flow.why for flow in found)[:SOME])
            return Mine(title, f"A flow of Tunbridge, for one of {len(found)} reasons, as the numbers of another host "
                        f"are in it: {either}. Give `ovs-ofctl show` of this host with --names.", False)
        if not found:
            return Mine(title, f"A flow of Tunbridge, but {self._file} makes none that is like it: it is of another "
                        "topology, or of an earlier one.", False)
        return Mine(title, f"{found[0].why}.", True, self._origin(found[0].origin))

    def _by_cookie(self, cookie: int, host: str, bridge: str) -> list[Flow]:
        return _reasons(flows[cookie] for flows in self._of(host, bridge) if cookie in flows)

    def _by_shape(self, row: Row, host: str, bridge: str) -> list[Flow]:
        """Those that differ only in numbers of the host, one for each reason."""
        return _reasons(flow for at, name in self._all() if name == bridge and host in ("", at)
                        for flow in self._shapes(at, name).get(_shape(row), ()))

    def _shapes(self, host: str, bridge: str) -> dict[Shape, list[Flow]]:
        """The flows of a bridge by what is left without numbers; made when it is first asked for."""
        if (host, bridge) not in self._by_shapes:
            found: dict[Shape, list[Flow]] = {}
            for flow in self._all()[host, bridge].values():
                found.setdefault(_shape(ofctl.read(line(flow))), []).append(flow)
            self._by_shapes[host, bridge] = found
        return self._by_shapes[host, bridge]

    def _of(self, host: str, bridge: str) -> list[Mapping[int, Flow]]:
        """The flows of a bridge, of one host or of all."""
        return [flows for (at, name), flows in self._all().items() if name == bridge and host in ("", at)]

    def _all(self) -> dict[tuple[str, str], dict[int, Flow]]:
        if self._flows is None:
            self._flows = dict(self._computed())
        return self._flows

    def _computed(self) -> Iterator[tuple[tuple[str, str], dict[int, Flow]]]:
        topology = self._topology
        assert topology
        for host in topology.hosts:
            for bridge, flows in compile_host(placement.place(topology, host, self._seen(topology, host))).items():
                yield (host, bridge), {cookie_of(flow): flow for flow in flows}

    def _seen(self, topology: Topology, host: str) -> placement.Seen:
        """The numbers of a fresh host; the ports as named, if most of the host's devices are among them."""
        fresh = placement.imagined(topology, host)
        named: dict[str, dict[str, int]] = {}
        for (bridge, number), device in self._labels.devices.items():
            if number.isdigit():
                named.setdefault(bridge, {})[device] = int(number)
        ports = {bridge: _called(named.get(bridge, {}), devices) or devices for bridge, devices in fresh.ports.items()}
        return placement.Seen(ports, fresh.vlans)

    def _origin(self, path: str) -> str:
        if path in ("", PIPELINE):
            return ""
        number = self._lines().get(path)
        if number is None:
            number = _line_of(path, self._root())
            self._lines()[path] = number
        return f"{self._file}:{number}  {path}" if number else f"{self._file}: {path}"

    @cache  # noqa: B019 - one object for a run of the command
    def _lines(self) -> dict[str, int]:
        return {}

    @cache  # noqa: B019
    def _root(self) -> Node | None:
        try:
            with open(self._file, "rb") as opened:
                return source.read(opened.read()).root
        except OSError:
            return None


def _reasons(found: Iterable[Flow]) -> list[Flow]:
    """One flow for each reason."""
    return list({(flow.why, flow.origin): flow for flow in found}.values())


def _called(named: Mapping[str, int], wanted: Mapping[str, int]) -> Mapping[str, int]:
    """The ports of a bridge as they are named, if most of what it shall have is among them; empty if not."""
    known = wanted.keys() - {placement.UPLINK}  # a NIC may have any name
    return named if 2 * len(known & named.keys()) > len(known) else {}


def _line_of(path: str, root: Node | None) -> int:
    """Where an object stands in its file; 0 if unknown. Names may have dots, so the longest that is there wins."""
    node, words = root, path.split(".")
    while node is not None and words:
        for count in range(len(words), 0, -1):
            name = ".".join(words[:count])
            place = _STEP.search(name)
            child = node.child(_STEP.sub("", name))
            if child is not None:
                node = child if not place else child.child(int(place[1])) or child
                words = words[count:]
                break
        else:
            break
    return node.place.line if node is not None else 0


def _title(bridge: str, number: int) -> str:
    try:
        found = table(bridge, number)
    except KeyError:
        return ""
    return f"{found.name}: {found.question}"


def _shape(row: Row) -> Shape:
    match = frozenset((key, "" if _OWN.fullmatch(key) else value) for key, value in row.match.items())
    return row.table, row.priority, match, tuple(_NUMBER.sub("", action) for action in row.actions)


def _mac(row: Row) -> str:
    return next((action.partition("=")[2] for action in row.actions if action.startswith("dl_dst=")), "a MAC")
