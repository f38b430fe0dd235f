"""What a real host has, read with the commands that everybody has: ovs-vsctl and ip, both in JSON."""
from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from controller.host import observe_firewall, observe_namespaces
from controller.host.converge import VLAN_GROUPS
from controller.host.devices import MARK, NAMESPACE_LABEL, Bridge, Devices, Limit, Link, OvsPort, Underlay
from controller.host.observe_namespaces import NotOurs, Read
from controller.host.steps import Step

__all__ = ["NotOurs", "Read", "Sight", "observe"]

Row = dict[str, Any]

_COLUMNS = {
    "Bridge": "name,datapath_type,fail_mode,controller,other_config,external_ids,ports,flow_tables",
    "Controller": "_uuid,target,type",
    "Flow_Table": "_uuid,flow_limit,overflow_policy,groups",
    "Port": "_uuid,interfaces",
    "Interface": "_uuid,name,type,options,external_ids",
}


@dataclass(frozen=True)
class Sight:
    """Everything that was seen: ours and others'."""

    devices: Devices  # bridges that are ours; ports that are ours or that we want; all links
    names: frozenset[str]  # of all network devices


def observe(want: Devices, read: Read) -> Sight:
    """What the host has of what is wanted, and of what is ours. NotOurs if a bridge we want is another's."""
    tables = {table: list(_rows(table, read)) for table in _COLUMNS}
    links = tuple(_links(read))
    wanted = {port.name for port in want.ports}
    ours = [port for port in _ports(tables) if port.name in wanted or (MARK, want.cloud) in port.external_ids]
    legs = [port for port in ours if any(key == NAMESPACE_LABEL for key, _ in port.external_ids)]
    ports = tuple(port for port in ours if port not in legs)
    devices = Devices(want.cloud, tuple(_bridges(tables, want)), ports, links, _underlay(want.underlay, read),
                      tuple(observe_namespaces.observe(want, legs, links, read)),
                      observe_firewall.observe(read))
    return Sight(devices, frozenset(link.name for link in links))


def controllers(read: Read) -> dict[str, tuple[str, ...]]:
    """Bridge -> whom it calls, as `tcp:192.0.2.1:6653`; only of bridges that call anybody."""
    targets = {row["_uuid"][0]: row["target"] for row in _rows("Controller", read)}
    return {row["name"]: tuple(targets[reference] for reference in row["controller"] if reference in targets)
            for row in _rows("Bridge", read) if row["controller"]}


def flushed(read: Read) -> list[str]:
    """Bridges that Open vSwitch flushes when it is let go, as they then get a primary controller."""
    services = {row["_uuid"][0] for row in _rows("Controller", read) if row["type"] == "service"}
    return [row["name"] for row in _rows("Bridge", read) if set(row["controller"]) - services]


# Open vSwitch. Its JSON is that of RFC 7047, 5.1: scalars, ["uuid", x], ["set", [...]] and ["map", [[key, value]]].

def _rows(table: str, read: Read) -> Iterator[Row]:
    argv = ("ovs-vsctl", "--timeout=30", "--format=json", f"--columns={_COLUMNS[table]}", "list", table)
    found = json.loads(read(Step(argv, f"read what Open vSwitch has ({table})")))
    for cells in found["data"]:
        yield {heading: _value(cell) for heading, cell in zip(found["headings"], cells, strict=True)}


def _value(cell: Any) -> Any:
    """A map as a dict, a set or a reference as a list of strings, anything else as it is."""
    match cell:
        case ["map", pairs]:
            return dict(pairs)
        case ["uuid", reference]:
            return [reference]
        case ["set", members]:
            return [item for member in members for item in (_value(member) if isinstance(member, list) else [member])]
    return cell


def _bridges(tables: dict[str, list[Row]], want: Devices) -> Iterator[Bridge]:
    controllers = {row["_uuid"][0]: row for row in tables["Controller"]}
    limits = {row["_uuid"][0]: row["flow_limit"] for row in tables["Flow_Table"]
              if row["overflow_policy"] == "evict" and row["groups"] in (VLAN_GROUPS, [VLAN_GROUPS])}
    wanted = {bridge.name for bridge in want.bridges}
    for row in tables["Bridge"]:
        owner = row["external_ids"].get(MARK)
        if owner == want.cloud:
            yield replace(_bridge(row, controllers), limits=tuple(_limits(row, limits)))
        elif row["name"] in wanted:
            raise NotOurs(f"The bridge {row['name']} is {'of the cloud ' + repr(owner) if owner else 'not ours'}, and "
                          f"its flows would be lost. To hand it over: ovs-vsctl br-set-external-id {row['name']} "
                          f"{MARK} {want.cloud}")


def _limits(row: Row, limits: dict[str, int]) -> Iterator[Limit]:
    """One that somebody has set otherwise is none of ours."""
    for table, (_, reference) in sorted(row["flow_tables"].items()):
        yield Limit(table, limits.get(reference, 0))


def _bridge(row: Row, controllers: dict[str, Row]) -> Bridge:
    config = row["other_config"]
    found = [controllers[reference] for reference in row["controller"] if reference in controllers]
    number = config.get("datapath-id")
    return Bridge(row["name"], row["datapath_type"] or "system", int(number, 16) if number else None,
                  found[0]["target"] if found else None, config.get("hwaddr"), row["fail_mode"] or "standalone",
                  service=all(one["type"] == "service" for one in found))


def _ports(tables: dict[str, list[Row]]) -> Iterator[OvsPort]:
    interfaces = {row["_uuid"][0]: row for row in tables["Interface"]}
    members = {row["_uuid"][0]: row["interfaces"] for row in tables["Port"]}
    for bridge in tables["Bridge"]:
        for reference in (one for port in bridge["ports"] for one in members[port]):
            row = interfaces[reference]
            yield OvsPort(row["name"], bridge["name"], row["type"], tuple(row["options"].items()),
                          tuple(row["external_ids"].items()))


# The kernel.

def _links(read: Read) -> Iterator[Link]:
    found = json.loads(read(Step(("ip", "-json", "-details", "link", "show"), "read the host's devices")) or "[]")
    for row in found:
        kind = row.get("linkinfo", {}).get("info_kind", "")
        peer = row.get("link", "") if kind == "veth" and "link_netnsid" not in row else ""
        yield Link(row["ifname"], kind, row["mtu"], peer=peer, master=row.get("master", ""),
                   alias=row.get("ifalias", ""), up="UP" in row["flags"])


def _underlay(want: Underlay | None, read: Read) -> Underlay | None:
    """Where the tunnel address stands now: where it shall, or on the card that it must leave, or nowhere of ours."""
    if want is None:
        return None
    address = want.address.partition("/")[0]
    for device in filter(None, (want.device, want.uplink)):
        for found, length in _addresses(device, read):
            if found == address:
                return Underlay(device, f"{found}/{length}", want.neighbours, want.uplink)
    return None


def _addresses(device: str, read: Read) -> Iterable[tuple[str, int]]:
    step = Step(("ip", "-json", "address", "show", "dev", device), f"read the addresses of {device}", tolerant=True)
    rows = json.loads(read(step) or "[]")
    return [(one["local"], one["prefixlen"]) for row in rows for one in row.get("addr_info", ())]
