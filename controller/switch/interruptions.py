"""What another topology interrupts: for `apply --plan`, which says before anything changes whether it is hitless.

Told from what differs between two topologies. `gaps`: those who may talk before and after lose packets meanwhile;
`ends`: conversations that may not go on end. Who comes or goes is in neither: a plan tells that as gain and loss.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

from controller.model.differing import Change
from controller.model.filtering import words
from controller.model.objects import Port, Router, RouterPort, SecurityRule
from controller.model.succession import Succession
from controller.model.topology import Topology

_T = TypeVar("_T")
_IN_TURN: Final = "hosts change over one after the other, and what is on its way between two of them is lost"


@dataclass(frozen=True)
class Interruption:
    """Something that people notice."""

    what: str  # whom it is about: `web1`, `network blue`, `all hosts`
    why: str  # a clause
    ports: tuple[str, ...] | None = None  # the VMs' ports that feel it; None: everybody


def gaps(step: Succession) -> list[Interruption]:
    """Where packets are lost that may pass before and after."""
    found = [*_settings(step), *_hosts(step), *_networks(step), *_ports(step), *_routers(step), *_renumbered(step)]
    everybody = [one for one in found if one.ports is None]
    return everybody or found


def ends(step: Succession) -> list[Interruption]:
    """What is cut because it may not go on."""
    return [*_rules(step), *_groups(step), *_floating(step)]


def opened(step: Succession) -> list[Interruption]:
    """What rules that come let begin: no pair of a ping need be among them, so a plan tells them beside."""
    old, new = step.old.security_groups, step.new.security_groups
    found = []
    for name in sorted(step.difference.groups & old.keys() & new.keys()):
        known = {_meaning(rule) for rule in old[name].rules}
        come = [words(rule) for rule in new[name].rules if _meaning(rule) not in known]
        if come:
            why = f"these rules come: {', '.join(come)}"
            found.append(Interruption(f"group {name}", why, _obeying(step.new, name)))
    return found


def document(step: Succession) -> dict[str, object]:
    """`hitless` of a plan: {"ok": bool, "interrupted": [{what, why, ports}], "ended": [the same]}."""
    lost, cut = gaps(step), ends(step)
    return {"ok": not lost, "interrupted": [plain(one) for one in lost], "ended": [plain(one) for one in cut]}


def plain(one: Interruption) -> dict[str, object]:
    """As values for JSON."""
    return {"what": one.what, "why": one.why, "ports": None if one.ports is None else list(one.ports)}


# ---- who feels it

def _on(step: Succession, network: str) -> tuple[str, ...]:
    """The ports that are on a network before and after."""
    after = {port.id for port in step.new.ports_by_network.get(network, ())}
    return tuple(port.name for port in step.old.ports_by_network.get(network, ()) if port.id in after)


def _behind(step: Succession, legs: Iterable[RouterPort]) -> tuple[str, ...]:
    """Those on the networks of a router's legs."""
    networks = dict.fromkeys(leg.network for leg in legs if not leg.outside)
    return tuple(chain.from_iterable(_on(step, name) for name in networks))


def _both(before: Iterable[_T], after: Iterable[_T], key: Callable[[_T], object]) -> Iterator[tuple[_T, _T]]:
    """Those that are in both, as they were and as they will be."""
    now = {key(one): one for one in after}
    yield from ((one, now[key(one)]) for one in before if key(one) in now)


# ---- whose packets are lost

def _settings(step: Succession) -> Iterator[Interruption]:
    old, new = step.old, step.new
    if old.cloud != new.cloud:
        yield Interruption("all hosts", f"the cloud is called {new.cloud}: every id and device name is another")
    if old.tunnel != new.tunnel:
        yield Interruption("all hosts", "every tunnel is made anew")
    if old.firewall != new.firewall:
        yield Interruption("all VMs", f"every VM is plugged in anew for the firewall {new.firewall}")


def _hosts(step: Succession) -> Iterator[Interruption]:
    for name in sorted(step.difference.hosts & step.old.hosts.keys() & step.new.hosts.keys()):
        before, after = step.old.hosts[name], step.new.hosts[name]
        ports = tuple(port.name for port in step.old.ports_by_host.get(name, ()))
        if before.tunnel_ip != after.tunnel_ip:
            yield Interruption(f"host {name}", f"its tunnels end at {after.tunnel_ip} from then on", ports)
        if before.bridge_mappings != after.bridge_mappings:
            yield Interruption(f"host {name}", "its physical networks are behind other bridges", ports)
        if before.datapath_ids != after.datapath_ids:
            yield Interruption(f"host {name}", "its switches are expected under other datapath ids", ports)


def _networks(step: Succession) -> Iterator[Interruption]:
    for name in sorted(step.difference.networks & step.old.networks.keys() & step.new.networks.keys()):
        before, after = step.old.networks[name], step.new.networks[name]
        if before.tunnel_id != after.tunnel_id:
            yield Interruption(f"network {name}", f"its tunnel id becomes {after.tunnel_id}: {_IN_TURN}",
                               _on(step, name))
        if (before.physical_network, before.segmentation_id) != (after.physical_network, after.segmentation_id):
            yield Interruption(f"network {name}", f"its place on a physical network is another: {_IN_TURN}",
                               _on(step, name))
        for was, now in _both(before.subnets, after.subnets, lambda one: one.name):
            if was.gateway != now.gateway:
                yield Interruption(f"subnet {now.name}", f"its gateway becomes {now.gateway}, and VMs have to learn it",
                                   _on(step, name))


def _ports(step: Succession) -> Iterator[Interruption]:
    named = dict(_both(step.ports.gone, step.ports.come, lambda port: port.name))
    for before, after in sorted(named.items(), key=lambda pair: pair[0].name):
        why = _of_port(before, after)
        if why:
            yield Interruption(before.name, why, (before.name,))


def _of_port(before: Port, after: Port) -> str:
    if before.host != after.host:
        return f"it moves from {before.host} to {after.host}: unplugged there, plugged in here"
    if before.id != after.id or before.device != after.device:
        return "it is another port by its id or device: unplugged, and plugged in anew"
    if before.network != after.network:
        return f"it leaves {before.network} for {after.network}"
    changed = [name for name in ("ip", "mac") if getattr(before, name) != getattr(after, name)]
    if changed:
        return f"its {' and '.join(changed)} is another, and its neighbours remember the old one"
    return ""


def _routers(step: Succession) -> Iterator[Interruption]:
    routers = (step.old.routers[name] for name in sorted(step.old.routers.keys() & step.new.routers.keys()))
    moved = set()
    for before in routers:
        after, why = step.new.routers[before.name], ""
        feel = _behind(step, step.old.legs_by_router.get(before.name, ()))
        if before.host != after.host:
            why = f"it moves from {before.host} to {after.host}, and what it has translated is forgotten"
        elif before.driver != after.driver:
            why = f"it becomes {after.driver}, and what it has translated is forgotten"
        elif before.id != after.id:
            why = "it is another router by its id, and what it has translated is forgotten"
        if why:
            moved.add(before.name)
            yield Interruption(f"router {before.name}", why, feel)
        elif _address_outside(before) != _address_outside(after):
            yield Interruption(f"router {before.name}", "it shows another address outside, and what was begun there "
                               "under the old one is lost", feel)
    yield from _legs(step.legs, step, moved)


def _address_outside(router: Router) -> object:
    return (router.gateway.network, router.gateway.ip, router.gateway.snat) if router.gateway is not None else None


def _legs(legs: Change[RouterPort], step: Succession, moved: set[str]) -> Iterator[Interruption]:
    for before, after in _both(legs.gone, legs.come, lambda leg: (leg.router, leg.subnet)):
        if before.router not in moved and not before.outside and (before.ip, before.mac) != (after.ip, after.mac):
            yield Interruption(before.name, "it has another address, and its neighbours remember the old one",
                               _on(step, before.network))


def _renumbered(step: Succession) -> Iterator[Interruption]:
    """Hashes that collide: who comes may move somebody else's zone of connection tracking."""
    for host in sorted(step.ports.hosts & step.old.hosts.keys() & step.new.hosts.keys()):
        before, after = (topology.filters.numbers(host).zones for topology in (step.old, step.new))
        ports = {port.id: port.name for port in step.old.ports_by_host.get(host, ())}
        moved = tuple(ports[each] for each, zone in before.items() if each in ports and after.get(each, zone) != zone)
        if moved and step.new.firewall == "openvswitch":
            yield Interruption(f"host {host}", "ports get another zone of connection tracking, and what they were "
                               "saying is judged anew", moved)
    for host in sorted(step.legs.hosts & step.old.numbers_by_host.keys() & step.new.numbers_by_host.keys()):
        zones, now = (topology.numbers_by_host[host].zones for topology in (step.old, step.new))
        for router in step.old.routers.values():
            if router.id in zones and now.get(router.id, zones[router.id]) != zones[router.id]:
                yield Interruption(f"router {router.name}", "it gets another number, and what it has translated is "
                                   "forgotten", _behind(step, step.old.legs_by_router.get(router.name, ())))


# ---- what ends

def _rules(step: Succession) -> Iterator[Interruption]:
    old, new = step.old.security_groups, step.new.security_groups
    for name in sorted(step.difference.groups & old.keys() & new.keys()):
        kept = {_meaning(rule) for rule in new[name].rules}
        gone = [words(rule) for rule in old[name].rules if _meaning(rule) not in kept]
        if gone:
            yield Interruption(f"group {name}", f"what only these rules let begin is cut: {', '.join(gone)}",
                               _obeying(step.old, name))
        if _restricts(new[name].rules) and not _restricts(old[name].rules):
            yield Interruption(f"group {name}", "its VMs could begin anything; from then on its egress rules say what",
                               _obeying(step.old, name))


def _meaning(rule: SecurityRule) -> tuple[object, ...]:
    return (rule.direction, rule.ethertype, rule.protocol, rule.ports, rule.icmp_type, rule.icmp_code, rule.remote,
            rule.remote_group)


def _restricts(rules: Iterable[SecurityRule]) -> bool:
    return any(rule.direction == "egress" for rule in rules)


def _obeying(topology: Topology, group: str) -> tuple[str, ...]:
    return tuple(port.name for port in topology.ports() if group in port.security_groups)


def _groups(step: Succession) -> Iterator[Interruption]:
    """Ports that obey other groups."""
    for before, after in _both(step.ports.gone, step.ports.come, lambda port: port.id):
        left = sorted(set(before.security_groups) - set(after.security_groups))
        if left:
            yield Interruption(after.name, f"what only {', '.join(left)} let it begin or hear is cut", (after.name,))
        elif after.security_groups and not before.security_groups:
            yield Interruption(after.name, f"it was not filtered; from then on it obeys "
                               f"{', '.join(after.security_groups)}", (after.name,))


def _floating(step: Succession) -> Iterator[Interruption]:
    old = {one.address: one for one in step.old.floating_ips}
    new = {one.address: one for one in step.new.floating_ips}
    for address, one in old.items():
        if (one.vm, one.network) != ((now.vm, now.network) if (now := new.get(address)) else None):
            port = step.old.fixed_port(one)
            yield Interruption(f"floating IP {address}", f"it is taken from {one.vm}, and its conversations end",
                               (port.name,) if port is not None else ())
