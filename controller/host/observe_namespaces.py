"""Which routers and DHCP servers a real host has as namespaces, and how they are set up."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from controller.host import dnsmasq, nat, steps
from controller.host.devices import NAMESPACE_LABEL, Devices, Leg, Link, Namespace, OvsPort
from controller.host.steps import Step

_PREFIXES: Final = ("qrouter-", dnsmasq.PREFIX)
Read = Callable[[Step], str]  # runs a command that changes nothing; its output


class NotOurs(Exception):
    """A device with a name that we need belongs to somebody else; the text says which and what to do."""


def observe(want: Devices, ports: Iterable[OvsPort], links: Iterable[Link], read: Read) -> Iterator[Namespace]:
    """The namespaces that are ours. `ports`: the legs on br-int; `links`: all devices of the host itself.

    NotOurs if a namespace that we want is somebody else's.
    """
    here = {link.name: link for link in links}
    legs: dict[str, list[OvsPort]] = {}
    for port in ports:
        legs.setdefault(dict(port.external_ids)[NAMESPACE_LABEL], []).append(port)
    wanted = {one.name: one for one in want.namespaces}
    listed = json.loads(read(Step(("ip", "-json", "netns", "list"), "read the host's namespaces")) or "[]")
    there = [one["name"] for one in listed if one["name"].startswith(_PREFIXES) or one["name"] in wanted]
    for name in dict.fromkeys((*there, *legs)):
        shall = wanted.get(name, Namespace(name, f"what is in {name}", (), (), (), ()))
        plugged = {port.name: port for port in legs.get(name, ())}
        if name not in there:
            yield Namespace(name, shall.owner, tuple(Leg(leg, "", 0, ()) for leg in plugged), (), (), (), whole=False)
            continue
        rows = json.loads(read(Step(("ip", "-netns", name, "-json", "-details", "address", "show"),
                                    f"read the addresses in {name}")))
        if any(row["ifname"] == "lo" and row.get("ifalias") == want.mark for row in rows):
            yield _namespace(shall, tuple(_legs(shall, rows, plugged, here)), read)
        elif name in wanted:
            raise NotOurs(f"There is a namespace {name} on this host that is not ours; remove it with `ip netns del "
                          f"{name}`, or hand it over: ip -n {name} link set lo alias {want.mark}")


def _namespace(shall: Namespace, legs: tuple[Leg, ...], read: Read) -> Namespace:
    name = shall.name
    routes = read(Step(("ip", "-netns", name, "route", "show"), f"read the routes of {name}"))
    saving = Step((*steps.entering(name), "iptables-save"), f"read the address translation of {name}")
    rules = read(saving) if shall.rules else ""
    return Namespace(name, shall.owner, legs,
                     tuple(line.strip() for line in routes.splitlines() if " proto kernel " not in line),
                     nat.canonical(rules.splitlines()), tuple(_settings(shall, read)), shall.software_checksums,
                     dnsmasq=dnsmasq.observe(shall, read) if shall.dnsmasq else None)


def _legs(shall: Namespace, rows: Iterable[Mapping[str, Any]], ports: Mapping[str, OvsPort],
          here: Mapping[str, Link]) -> Iterator[Leg]:
    """A leg of which a part is missing, or down, has no MAC: it can only be made anew."""
    inside = {row["ifname"]: row for row in rows}
    for name in dict.fromkeys((*ports, *(leg.name for leg in shall.legs if leg.name in inside))):
        row, port, near = inside.get(name), ports.get(name), here.get(name)
        if row is None or port is None or near is None or not near.up or "UP" not in row["flags"]:
            yield Leg(name, "", 0, ())
            continue
        addresses = tuple(f"{one['local']}/{one['prefixlen']}" for one in row["addr_info"] if one["scope"] == "global")
        yield Leg(name, row["address"], row["mtu"] if row["mtu"] == near.mtu else 0, addresses, port.external_ids)


def _settings(shall: Namespace, read: Read) -> Iterator[str]:
    """Of what it shall have, what it has; what this kernel does not know counts as set."""
    wanted = dict(setting.split("=", 1) for setting in shall.sysctls)
    if not wanted:
        return
    text = read(Step((*steps.entering(shall.name), "sysctl", "-e", *wanted), f"read the settings of {shall.name}"))
    found = {key.strip().replace(".", "/"): value.strip() for key, _, value in
             (line.partition("=") for line in text.splitlines())}
    yield from (f"{key}={found.get(key, value)}" for key, value in wanted.items())
