"""From one lab to the next: what to do, as JSON that mininet/lab.py obeys.

A stage is a list of jobs that may run side by side; stages run in order. A job that names a namespace is about one
router, DHCP server or packet filter and nothing else: if it fails, the steps in its `otherwise` are done, no further
job of that namespace is, and the others go on.
"""
from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from controller.host import clients, converge, dnsmasq, namespaces, outside, refilter, steps
from controller.host.devices import Devices, Link
from controller.host.lab import FIREWALL, UPLINK, Card, LabPlan, LabVm, kinds
from controller.host.outside import Outside
from controller.host.steps import Step

Job = dict[str, Any]
Stage = dict[str, Any]
_T = TypeVar("_T")
_WITH_SWITCHES: Final = ("hypervisor", "internet")


def stages(old: LabPlan | None, new: LabPlan) -> list[Stage]:
    """What to do, in order, to turn the lab `old` (None: nothing is there) into `new`. Equal plans: nothing."""
    before = old or LabPlan(new.cloud, new.underlay, new.underlay_mtu)
    shall, had = kinds(new), kinds(old) if old else {}
    stopped = [name for name, kind in had.items() if shall.get(name) != kind]
    started = [name for name, kind in shall.items() if had.get(name) != kind]
    keep = replace(before, hypervisors=_but(before.hypervisors, stopped), vms=_but(before.vms, stopped),
                   outside=None if before.outside is None or before.outside.name in stopped else before.outside)
    plan = [
        _stage("routers that go", _leave(before, new)),
        _stage("unplugging", _unplug(before, new)),
        _stage("stopping", ({"do": "stop", "node": name} for name in stopped)),
        _stage("starting", ({"do": "start", "node": name, "kind": shall[name]} for name in started)),
        _stage("switches", ({"do": "ovs", "node": name} for name in started if shall[name] in _WITH_SWITCHES)),
        _stage("settings", _settings(new, started)),
        _stage("firewall", _filter(keep, new)),
        _stage("wiring", _plug(keep, new)),
        _stage("plugging in", _plug_in(keep, new)),
        _stage("underlay", _join(keep, new)),
        _stage("outside", _surround(keep, new)),
        _stage("addresses", _addresses(keep, new)),
        _stage("routers", _route(keep, new)),
        _stage("clients", _ask(keep, new)),
        _stage("announcing", _announcements(keep, new)),
    ]
    return [stage for stage in plan if stage["jobs"]]


def _but(those: Mapping[str, _T], gone: Container[str]) -> dict[str, _T]:
    return {name: one for name, one in those.items() if name not in gone}


def _stage(what: str, jobs: Iterable[Job]) -> Stage:
    return {"what": what, "jobs": list(jobs)}


def _run(node: str, todo: Iterable[Step]) -> Iterator[Job]:
    listed = [steps.to_json(step) for step in todo]
    if listed:
        yield {"do": "run", "node": node, "steps": listed}


def _unplug(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """Also of hosts that go: a VM that moves away must be off its old wire before the new one is made."""
    for name, have in old.hypervisors.items():
        yield from _run(name, converge.removals(new.hypervisors.get(name, Devices(have.cloud)), have))
    if old.outside and new.outside and old.outside.name == new.outside.name:
        yield from _run(old.outside.name, converge.removals(new.outside.devices, old.outside.devices))


def _leave(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    for name, have in old.hypervisors.items():
        for job in namespaces.removals(new.hypervisors.get(name, Devices(have.cloud)), have):
            yield from _alone(name, job)


def _route(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    for name, want in new.hypervisors.items():
        for job in namespaces.additions(want, old.hypervisors.get(name, Devices(want.cloud))):
            yield from _alone(name, job)


def _alone(host: str, job: namespaces.Job) -> Iterator[Job]:
    yield from ({**run, "namespace": job.namespace.name} for run in _run(host, job.steps))


def _plug(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    for name, want in new.hypervisors.items():
        yield from _run(name, converge.additions(want, old.hypervisors.get(name, Devices(want.cloud))))


def _filter(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """Between what leaves and what comes: no port is there without its rules. Whose rules do not get in is closed."""
    for name, want in new.hypervisors.items():
        change = refilter.change(want.firewall, old.hypervisors.get(name, Devices(want.cloud)).firewall)
        closing = [steps.to_json(step) for step in refilter.closing(change.touched)]
        yield from ({**run, "namespace": FIREWALL, "otherwise": closing} for run in _run(name, change.steps))


def _plug_in(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """A port whose rules have changed is plugged in only if they are in."""
    for name, want in new.hypervisors.items():
        have = old.hypervisors.get(name, Devices(want.cloud))
        changing = {end for one in refilter.change(want.firewall, have.firewall).touched for end in one.plugs}
        yield from _run(name, converge.plugging(want, have, converge.guarded(want) - changing))
        yield from ({**run, "namespace": FIREWALL} for run in _run(name, converge.plugging(want, have, changing)))


def _settings(new: LabPlan, started: Iterable[str]) -> Iterator[Job]:
    """IPv6 is off wherever the file has no IPv6 address: its own chatter would cross the tenants' wires."""
    for name in started:
        if name == new.underlay:
            bridge = f"link add name {name[:15]} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"
            yield from _run(name, (*_quiet(), *steps.ip_batch(
                (bridge, f"link set dev {name[:15]} mtu {new.underlay_mtu} up"), "joins the hypervisors")))
        elif name in new.hypervisors:
            address = new.hypervisors[name].underlay
            speaks = address is not None and ":" in address.address
            yield from _run(name, (*(() if speaks else _quiet()), *_private_namespaces()))
        elif new.outside and name == new.outside.name:
            yield from _run(name, (*_quiet(), *steps.sysctl(outside.SYSCTLS, "it is everybody outside"),
                                   *steps.ip_batch(outside.WORLD, "it has every address of the world")))
        else:
            speaks = any(":" in card.address for card in new.vms[name].cards)
            yield from _run(name, (*(() if speaks else _quiet()), *_still()))


def _quiet() -> tuple[Step, ...]:
    keys = (f"net/ipv6/conf/{which}/disable_ipv6=1" for which in ("all", "default"))
    return steps.sysctl(keys, "no address of this node is IPv6, so it shall not chat in it")


def _still() -> tuple[Step, ...]:
    """A new namespace may inherit what the machine does."""
    return steps.sysctl(("net/ipv4/ip_forward=0",), "a VM forwards nothing, whatever this machine does")


def _private_namespaces() -> tuple[Step, ...]:
    """`ip netns` of a hypervisor shows its own: a machine may have two labs of one file, with equal router ids."""
    why = "what `ip netns` makes here is seen here alone"
    return tuple(step for place in ("/run/netns", dnsmasq.HOME) for step in (
        Step(("mkdir", "-p", place), why),
        Step(("mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "tunbridge", place), why)))


def _surround(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """The world outside, when the hypervisors' cards lead there."""
    if new.outside is None:
        return
    have = old.outside or Outside(new.outside.name, Devices(new.cloud), (), serving=False)
    fresh = {link.far.interface for host, want in new.hypervisors.items() for link in _new_links(old, host, want)
             if link.far and link.far.node == new.outside.name}
    again = [port for port in have.devices.ports if port.name in fresh]
    standing = replace(have.devices, ports=tuple(port for port in have.devices.ports if port.name not in fresh))
    plugs = [plug for plug in new.outside.plugs if plug not in have.plugs]
    yield from _run(new.outside.name, (
        *steps.vsctl((("--if-exists", "del-port", port.bridge, port.name) for port in again), "trunks that are new"),
        *converge.additions(new.outside.devices, standing),
        *steps.ip_batch((f"link set dev {name} up" for name in sorted(fresh)), "the trunks to the hypervisors"),
        *steps.ip_batch((line for plug in plugs for line in outside.setting_up(plug)), "the gateways outside"),
        *(Step(("ethtool", "-K", plug.interface, "tx", "off"), "checksums are computed by whoever is outside")
          for plug in plugs)))
    if not have.serving:
        yield {"do": "serve", "node": new.outside.name}


def _join(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """The underlay's ends of the hypervisors' cards, which were made with them."""
    had = {link.far for devices_ in old.hypervisors.values() for link in devices_.links if link.name == UPLINK}
    ends = [link.far for devices_ in new.hypervisors.values() for link in devices_.links if link.name == UPLINK]
    lines = [f"link set dev {end.interface} master {new.underlay[:15]} up" for end in ends if end and end not in had]
    if new.underlay_mtu != old.underlay_mtu:
        lines += [f"link set dev {end.interface} mtu {new.underlay_mtu}" for end in ends if end and end in had]
        lines.append(f"link set dev {new.underlay[:15]} mtu {new.underlay_mtu}")
    # The underlay would flood frames for a MAC that it has not yet heard, and other hosts would see them.
    known = tuple(f"fdb replace {bridge.mac} dev {link.far.interface} master static"
                  for host in new.hypervisors.values() for bridge in host.bridges if bridge.mac
                  for link in host.links if link.name == UPLINK and link.far and link.far not in had)
    whereabouts = (Step(("bridge", "-batch", "-"), "the underlay knows who lives where", known),) if known else ()
    yield from _run(new.underlay, (*steps.ip_batch(lines, "plug the hypervisors into the underlay"), *whereabouts))


def _addresses(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    rewired = _rewired(old, new)
    for name, vm in new.vms.items():
        had = old.vms[name].cards if name in old.vms else ()
        cards = _fresh(old, name, vm, rewired)
        stale = [card.interface for card in had if card.dhcp and (card in cards or card not in vm.cards)]
        lines = [line for card in cards for line in _card(card)]
        if name not in old.vms:
            lines.insert(0, "link set dev lo up")
        # TCP over the userspace datapath: nobody fills in the checksums that a veth leaves to the hardware.
        offload = [Step(("ethtool", "-K", card.interface, "tx", "off"), "checksums are computed by the VM itself")
                   for card in cards]
        yield from _run(name, (*(step for interface in stale for step in clients.end(interface)),
                               *steps.ip_batch(lines, "the VM's own addresses"), *offload))


def _ask(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """The clients of cards whose address comes from DHCP, when the servers know what to answer."""
    rewired = _rewired(old, new)
    for name, vm in new.vms.items():
        asking = [card.interface for card in _fresh(old, name, vm, rewired) if card.dhcp]
        first = name not in old.vms or not any(card.dhcp for card in old.vms[name].cards)
        yield from _run(name, (*(clients.room() if asking and first else ()),
                               *(step for interface in asking for step in clients.start(interface))))


def _fresh(old: LabPlan, name: str, vm: LabVm, rewired: Container[tuple[str, str]]) -> list[Card]:
    """Cards that are new, have changed, or hang on a new wire."""
    had = old.vms[name].cards if name in old.vms else ()
    return [card for card in vm.cards if card not in had or (name, card.interface) in rewired]


def _card(card: Card) -> Iterator[str]:
    nodad = " nodad" if ":" in card.address else ""
    yield f"address flush dev {card.interface} scope global"
    if card.dhcp:
        yield f"link set dev {card.interface} up"
        return
    yield f"link set dev {card.interface} mtu {card.mtu} up"
    yield f"address add {card.address} dev {card.interface}{nodad}"
    if card.gateway is not None:
        yield f"route replace default via {card.gateway} dev {card.interface}"


def _rewired(old: LabPlan, new: LabPlan) -> set[tuple[str, str]]:
    """(VM, interface) of every wire that is new, because the VM is, has moved or has changed its card."""
    return {(link.far.node, link.far.interface) for host, want in new.hypervisors.items()
            for link in _new_links(old, host, want) if link.far}


def _new_links(old: LabPlan, host: str, want: Devices) -> Iterator[Link]:
    """The links of a host that do not stand yet."""
    have = old.hypervisors.get(host)
    standing = {(link.name, link.far, link.kind) for link in have.links} if have is not None else set()
    yield from (link for link in want.links if (link.name, link.far, link.kind) not in standing)


def _announcements(old: LabPlan, new: LabPlan) -> Iterator[Job]:
    """A VM that has moved says so itself, or others would go on sending to where it was."""
    for name, vm in new.vms.items():
        if name in old.vms and old.vms[name].host != vm.host:
            words = [word for card in vm.cards
                     for word in (card.interface, card.mac, card.address.partition("/")[0])]
            yield from _run(name, (namespaces.announcement(words, f"others hear where {name} is now"),))
