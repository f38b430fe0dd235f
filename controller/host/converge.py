"""Want against have: the steps that turn what a host has into what it shall have.

What is right is not touched, what is missing is made, and of what is too much only that which wears our mark
is removed. Everything OVS holds changes in one transaction: a bridge is born secure and without flows, so
that its patch port to the other bridge carries nothing before the daemon has spoken.
"""
from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_interface

from controller.host import refilter, steps
from controller.host.devices import GIVEN, MARK, Bridge, Devices, Limit, Link, OvsPort, Underlay
from controller.host.steps import Step

Command = tuple[str, ...]

VLAN_GROUPS = "NXM_OF_VLAN_TCI[0..11]"  # flows of one VLAN, for ovs-vswitchd.conf.db(5), Flow_Table, groups


def converge(want: Devices, have: Devices) -> tuple[Step, ...]:
    """All steps in order; none if the host is as it shall be. Rules are in before their port is plugged in, and go
    when it has left.
    """
    return (*removals(want, have), *refilter.change(want.firewall, have.firewall).steps, *additions(want, have),
            *plugging(want, have, guarded(want)))


def removals(want: Devices, have: Devices) -> tuple[Step, ...]:
    """What goes: surplus ports, bridges and links, and those that can only be made anew."""
    doomed = _doomed_ports(want, have)
    kept = {bridge.name for bridge in want.bridges}
    commands: list[Command] = [("--if-exists", "del-port", port.bridge, port.name) for port in doomed]
    commands += [("--if-exists", "del-br", bridge.name) for bridge in have.bridges if bridge.name not in kept]
    return (*steps.vsctl(commands, "ports and bridges that the topology no longer has"),
            *steps.ip_batch((f"link del dev {link.name}" for link in _without_peers(_doomed_links(want, have))),
                            "wires that the topology no longer has", tolerant=True))


def additions(want: Devices, have: Devices) -> tuple[Step, ...]:
    """What comes or changes, but for plugging in what is guarded; assumes that `removals` has been done."""
    kept = _kept(want, have)
    return (*_new_links(want, kept),
            *steps.ip_batch(_link_settings(want, kept), "plug the wires together"),
            *_ovs(want, have),
            *_underlay(want.underlay, have.underlay))


def plugging(want: Devices, have: Devices, ends: Container[str]) -> tuple[Step, ...]:
    """Plug in what is guarded among these; assumes that `additions` has been done, and the rules are in."""
    kept, ours = _kept(want, have), guarded(want)
    lines = (f"link set dev {link.name} master {link.master}" for link in want.links
             if link.name in ours and link.name in ends and _to_plug(link, want, kept))
    return steps.ip_batch(lines, "plug in the ports whose rules are in")


def _kept(want: Devices, have: Devices) -> dict[str, Link]:
    gone = {link.name for link in _doomed_links(want, have)}
    return {link.name: link for link in have.links if link.name not in gone}


def guarded(want: Devices) -> set[str]:
    """The ends of wires that are plugged in by `plugging` alone."""
    return {end for one in want.firewall.guarded for end in one.plugs} if want.firewall is not None else set()


def _to_plug(link: Link, want: Devices, kept: Mapping[str, Link]) -> bool:
    now = kept.get(link.name)
    if not link.master or (link.kind == GIVEN and now is None):
        return False
    there = link.master in kept or any(other.name == link.master for other in want.links)
    return there and (now is None or now.master != link.master)


# Links.

def _new_links(want: Devices, kept: dict[str, Link]) -> Iterator[Step]:
    made: set[str] = set()
    lines, created = [], []
    for link in want.links:
        if link.kind == GIVEN or link.name in kept or link.name in made:
            continue
        lines.append(_create(link))
        made |= {link.name, link.peer}
        created += [name for name in (link.name, link.peer) if name]
    yield from steps.ip_batch(lines, "devices of the wires")
    yield from steps.sysctl((f"net/ipv6/conf/{name}/disable_ipv6=1" for name in created),
                            "the hypervisor itself never speaks on a tenant's wire")


def _create(link: Link) -> str:
    head = f"link add name {link.name} mtu {link.mtu} type"
    if link.kind == "bridge":
        # A wire, not a switch: no learning (ageing 0), no delay, no snooping, nothing said by itself.
        return f"{head} bridge forward_delay 0 stp_state 0 ageing_time 0 mcast_snooping 0"
    if link.far is None:
        return f"{head} veth peer name {link.peer} mtu {link.mtu}"
    address = f" address {link.far.mac}" if link.far.mac else ""
    return f"{head} veth peer name {link.far.interface}{address} mtu {link.mtu} netns pid:{link.far.node}"


def _link_settings(want: Devices, kept: dict[str, Link]) -> Iterator[str]:
    ours = guarded(want)
    for link in want.links:
        now = kept.get(link.name)
        if link.kind == GIVEN and now is None:
            continue  # libvirt has not made it yet; it plugs it in itself when it does
        changes = []
        if link.alias and (now is None or now.alias != link.alias):
            changes.append(f"alias {link.alias}")
        if now is not None and now.mtu != link.mtu:
            changes.append(f"mtu {link.mtu}")
        if link.name not in ours and _to_plug(link, want, kept):
            changes.append(f"master {link.master}")
        if now is None or not now.up:
            changes.append("up")
        yield from (f"link set dev {link.name} {change}" for change in changes)


def _doomed_links(want: Devices, have: Devices) -> tuple[Link, ...]:
    wanted = {link.name: link for link in want.links}
    cards = {port.name for port in want.ports}

    def goes(link: Link) -> bool:
        new = wanted.get(link.name)
        if new is None and link.name in cards:
            return False  # the lab made it and marked it; to the host it is a network card
        return link.alias == have.mark and (new is None or not same_make(new, link))
    return tuple(filter(goes, have.links))


def _without_peers(links: Iterable[Link]) -> Iterator[Link]:
    """One end of each pair: the other goes with it."""
    taken: set[str] = set()
    for link in links:
        if link.name not in taken:
            taken.add(link.peer)
            yield link


def same_make(want: Link, have: Link) -> bool:
    """Whether a device can be turned into the one that is wanted, or must be made anew."""
    return want.kind == GIVEN or (want.kind, want.peer, want.far) == (have.kind, have.peer, have.far)


# Open vSwitch.

def _doomed_ports(want: Devices, have: Devices) -> tuple[OvsPort, ...]:
    wanted = {port.name: port for port in want.ports}
    # A port whose device has been away does not work again when the device returns; it must be plugged in anew.
    there = {link.name for link in have.links} - {link.name for link in _doomed_links(want, have)}
    renewed = {link.name for link in (*want.links, *have.links) if link.kind != GIVEN} - there

    def stays(port: OvsPort) -> bool:
        new = wanted.get(port.name)
        return new is not None and (new.bridge, new.type) == (port.bridge, port.type) and port.name not in renewed
    return tuple(port for port in have.ports if not stays(port))


def _ovs(want: Devices, have: Devices) -> tuple[Step, ...]:
    bridges = {bridge.name: bridge for bridge in have.bridges}
    doomed = {port.name for port in _doomed_ports(want, have)}
    ports = {port.name: port for port in have.ports if port.name not in doomed}
    commands = [command for bridge in want.bridges for command in _bridge(bridge, bridges.get(bridge.name), want.cloud)]
    commands += [command for port in want.ports for command in port_commands(port, ports.get(port.name))]
    return steps.vsctl(commands, "bridges and ports, all at once: born secure, so nothing leaks before the flows come")


def _bridge(bridge: Bridge, now: Bridge | None, cloud: str) -> Iterator[Command]:
    # Whoever else's a bridge was may have left a flow there, as Open vSwitch does itself (NORMAL) in a standalone one:
    # its first controller is a primary one, so that it is flushed. And a controller that is there keeps its type.
    service = now is None or (now.controller is not None and now.service)
    if now is not None and replace(bridge, service=now.service) == now:
        return
    if now is None:
        yield ("--may-exist", "add-br", bridge.name)
    # In-band control would install hidden flows that let the bridge reach its controller past all tables.
    settings = [f"datapath_type={bridge.datapath}", f"fail_mode={bridge.fail_mode}",
                "other_config:disable-in-band=true", f"external_ids:{MARK}={quoted(cloud)}"]
    if bridge.datapath_id is not None:
        settings.append(f"other_config:datapath-id={bridge.datapath_id:016x}")
    if bridge.mac is not None:
        settings.append(f"other_config:hwaddr={quoted(bridge.mac)}")
    yield ("set", "Bridge", bridge.name, *settings)
    yield from _limits(bridge, now.limits if now is not None else ())
    if bridge.controller is not None and (now is None or now.controller != bridge.controller):
        yield ("set-controller", bridge.name, bridge.controller)
        yield ("set", "Controller", bridge.name, "connection-mode=out-of-band",
               "max_backoff=1000", "inactivity_probe=5000", *(("type=service",) if service else ()))


def _limits(bridge: Bridge, now: tuple[Limit, ...]) -> Iterator[Command]:
    if bridge.limits == now:
        return
    yield ("clear", "Bridge", bridge.name, "flow_tables")
    for limit in bridge.limits:
        row = f"@{bridge.name}-{limit.table}"
        yield (f"--id={row}", "create", "Flow_Table", f"flow_limit={limit.flows}", "overflow_policy=evict",
               f"groups={quoted(VLAN_GROUPS)}")
        yield ("set", "Bridge", bridge.name, f"flow_tables:{limit.table}={row}")


def port_commands(port: OvsPort, now: OvsPort | None) -> Iterator[Command]:
    """The ovs-vsctl commands that make a port what it shall be, from what it is now (None: it is not there)."""
    # Others may label an interface, too (Nova writes vm-uuid): their labels are none of our business.
    if (now and dict(port.options) == dict(now.options) and set(port.external_ids) <= set(now.external_ids)
            and port.tag == now.tag):
        return
    if now is None:
        yield ("--may-exist", "add-port", port.bridge, port.name)
    settings = [f"external_ids:{key}={quoted(value)}" for key, value in port.external_ids]
    if port.type:
        options = ",".join(f"{key}={quoted(value)}" for key, value in port.options)
        settings += [f"type={port.type}", f"options={{{options}}}"]
    if settings:
        yield ("set", "Interface", port.name, *settings)
    if port.tag is not None:
        yield ("set", "Port", port.name, f"tag={port.tag}")


def quoted(value: str) -> str:
    """A string as ovs-vsctl reads it whatever it holds; a MAC's colons would end an unquoted one."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


# The tunnels' own address.

_CONVERSATIONS = 100_000  # that a zone may hold; Open vSwitch tracks three million in all

# Connection tracking of the userspace datapath, for routers that translate and for security groups (ovs-vswitchd(8)).
TRACKING = (
    *(Step(("ovs-appctl", "--timeout=10", "dpctl/ipf-set-disabled", version),
           "fragments of all tenants would wait in one place, and come out with somebody else's packet", tolerant=True)
      for version in ("v4", "v6")),
    Step(("ovs-appctl", "--timeout=10", "dpctl/ct-disable-tcp-seq-chk"),
         "a TCP segment outside its window is the hosts' business, as in Neutron's routers", tolerant=True),
    Step(("ovs-appctl", "--timeout=10", "dpctl/ct-set-limits", f"default={_CONVERSATIONS}"),
         "no VM fills connection tracking for its neighbours", tolerant=True),
)


def footing(want: Devices) -> tuple[Step, ...]:
    """What a restarted ovs-vswitchd needs again before it forwards: rules of tracking, the tunnels' address, and the
    MACs behind it.
    """
    return tuple(_underlay(want.underlay, None))


def _underlay(new: Underlay | None, old: Underlay | None) -> Iterator[Step]:
    yield from _standing(new, old)
    yield from _neighbours(new, old)


def _standing(new: Underlay | None, old: Underlay | None) -> Iterator[Step]:
    if new is None:
        return
    if new.uplink and (old is None or old.device != new.device):
        yield from TRACKING
    if old is None or (new.device, new.address) != (old.device, old.address):
        yield from steps.ip_batch(_addresses(new, old), "the address that the tunnels start from")
        if new.uplink:
            yield from _route(new, old)


def _route(new: Underlay, old: Underlay | None) -> Iterator[Step]:
    network, before = (ip_interface(one.address).network if one is not None else None for one in (new, old))
    if before not in (None, network):
        yield Step(("ovs-appctl", "--timeout=10", "ovs/route/del", str(before)),
                   "the underlay is another one", tolerant=True)
    yield Step(("ovs-appctl", "--timeout=10", "version"),
               "ovs-vswitchd hears of the new address in the turn of its main loop that answers this")
    yield Step(("ovs-appctl", "--timeout=10", "ovs/route/add", str(network), new.device),
               "OVS forgets what it reads of the kernel's routes whenever a device comes or goes")


def _neighbours(new: Underlay | None, old: Underlay | None) -> Iterator[Step]:
    if new is None:
        return
    known = set() if old is None or old.device != new.device else set(old.neighbours)
    for address, mac in new.neighbours:
        if (address, mac) not in known:
            yield Step(("ovs-appctl", "--timeout=10", "tnl/neigh/set", new.device, address, mac),
                       "OVS drops the packet for which it must ask a MAC first")


def _addresses(new: Underlay, old: Underlay | None) -> Iterator[str]:
    if old is not None:
        yield f"address del {old.address} dev {old.device}"
    if new.uplink:
        yield f"link set dev {new.uplink} up"
    yield f"address replace {new.address} dev {new.device}{' nodad' if ':' in new.address else ''}"
    yield f"link set dev {new.device} up"
