"""Faults planted in the tables of a sound cloud, each of a kind of its own, and the flow that is to blame for each."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from controller.tools.verify_wires import Flows, Laid, compiled
from flows import fields as f
from flows import tables as t
from flows.fields import tagged
from flows.flow import Action, Flow, Goto, Learn, Match, Output, OutputBack, PopVlan, PushVlan, Resubmit, SetField, when
from tests.clouds import parse

CLOUD = """
cloud: planted
underlay: {{cidr: 192.0.2.0/24}}
forwarding: {forwarding}
arp_responder: {responder}
firewall: {firewall}
hosts:
  h1: {{tunnel_ip: 192.0.2.11}}
  h2: {{tunnel_ip: 192.0.2.12}}
  h3: {{tunnel_ip: 192.0.2.13, role: network}}
networks:
  blue: {{tunnel_id: 1001, subnets: {{b: {{cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}}}}
  data: {{tunnel_id: 1002, subnets: {{d: {{cidr: 10.0.2.0/24, gateway: 10.0.2.1}}}}}}
  green: {{tunnel_id: 2001, subnets: {{g: {{cidr: 10.0.1.0/24, gateway: 10.0.1.1}}}}}}
  {street}street: {{physical_network: dc, segmentation_id: 100, subnets: {{s: {{cidr: 10.0.9.0/24}}}}}}
{routers}
security_groups:
  web: [{{direction: ingress, protocol: tcp, port: 80}}, {{direction: ingress, protocol: icmp, remote_group: web}}]
vms:
  b1: {{host: h1, network: blue, ip: 10.0.1.11{groups}}}
  b2: {{host: h2, network: blue, ip: 10.0.1.12{groups}}}
  b3: {{host: h3, network: blue, ip: 10.0.1.13{groups}}}
  d1: {{host: h1, network: data, ip: 10.0.2.11}}
  g1: {{host: h1, network: green, ip: 10.0.1.11}}
  g2: {{host: h2, network: green, ip: 10.0.1.12}}
  g3: {{host: h3, network: green, ip: 10.0.1.13}}
  {street}s1: {{host: h1, network: street, ip: 10.0.9.11}}
"""
ROUTERS = "routers: {r1: {host: h3, driver: simulated, interfaces: [b, d]}}"


@dataclass
class Ground:
    """A sound cloud and its tables, to be spoiled."""

    laid: Laid
    flows: dict[tuple[str, str], list[Flow]]

    def vlan(self, host: str, network: str) -> int:
        return self.laid.seen[host].vlans[network]

    def port(self, name: str) -> int:
        """A VM's OpenFlow port on br-int."""
        return self.laid.plugs[name][2]

    def mac(self, name: str) -> str:
        return next(port.mac for port in self.laid.topology.ports() if port.name == name)

    def tunnel(self, host: str, to: str) -> int:
        found = self.laid.port(host, t.BR_TUN, self.laid.topology.whereabouts.tunnels[to])
        assert found is not None
        return found[2]

    def row(self, host: str, table: t.Table, rank: str, *criteria: f.Criterion) -> Flow:
        """The row of a table and rank that asks for these, among others."""
        return next(row for row in self.flows[host, table.bridge] if row.table is table
                    and row.priority == table.ranks[rank] and all(one in row.match.criteria for one in criteria))

    def change(self, host: str, old: Flow, *actions: Action, match: Match | None = None, why: str = "planted") -> Flow:
        """Let a row do something else, or take something else."""
        new = replace(old, actions=actions, match=match or old.match, why=why)
        rows = self.flows[host, old.table.bridge]
        rows[rows.index(old)] = new
        return new

    def add(self, host: str, table: t.Table, priority: int, match: Match, *actions: Action, origin: str = "planted"
            ) -> Flow:
        new = Flow(table, priority, match, actions, origin, "planted")
        self.flows[host, table.bridge].append(new)
        return new

    def remove(self, host: str, old: Flow) -> None:
        self.flows[host, old.table.bridge].remove(old)


Plant = Callable[[Ground], "tuple[str, Flow | None]"]  # the host, and the flow to blame; None: one is missing


@dataclass(frozen=True)
class Case:
    """A fault: the kinds of breaches that it may be found as, and where to plant it."""

    name: str
    kinds: frozenset[str]
    plant: Plant
    forwarding: str = "learning"
    firewall: str = "none"
    also: str = ""  # responder | router | street

    def ground(self) -> Ground:
        laid, flows = sound(self.forwarding, self.firewall, self.also)
        return Ground(laid, {key: list(rows) for key, rows in flows.items()})

    @property
    def intended(self) -> Flows:
        """The tables before they were spoiled."""
        return sound(self.forwarding, self.firewall, self.also)[1]


@cache
def sound(forwarding: str, firewall: str, also: str) -> tuple[Laid, Flows]:
    """A cloud, and the tables that it asks for."""
    groups = ", security_groups: [web]" if firewall != "none" else ""
    laid = Laid(parse(CLOUD.format(
        forwarding=forwarding, firewall=firewall, groups=groups, responder="true" if also == "responder" else "false",
        routers=ROUTERS if also == "router" else "", street="" if also == "street" else "# ")))
    assert laid.wiring.behind
    return laid, compiled(laid.hosts.values())


CASES: dict[str, Case] = {}


def planted(name: str, *kinds: str, forwarding: str = "learning", firewall: str = "none", also: str = ""
            ) -> Callable[[Plant], Plant]:
    def note(plant: Plant) -> Plant:
        CASES[name] = Case(name, frozenset(kinds), plant, forwarding, firewall, also)
        return plant
    return note


# ---- br-int: who sent this

@planted("a port in another network's VLAN", "isolation")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.CLASSIFY, "admit", f.IN_PORT(on.port("b1")))
    return "h1", on.change("h1", row, PushVlan(), SetField(tagged(on.vlan("h1", "green"))), row.actions[-1])


@planted("a tagged frame is let in", "tag")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", on.change("h1", on.row("h1", t.CLASSIFY, "tagged", f.IN_PORT(on.port("b1"))), Goto(t.ROUTER))


@planted("an unknown port is admitted", "stranger")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", on.change("h1", on.row("h1", t.CLASSIFY, "miss"), PushVlan(),
                           SetField(tagged(on.vlan("h1", "blue"))), Goto(t.ROUTER))


@planted("a port is not admitted", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h1", on.row("h1", t.CLASSIFY, "admit", f.IN_PORT(on.port("b1"))))
    return "h1", on.row("h1", t.CLASSIFY, "tagged", f.IN_PORT(on.port("b1")))


@planted("port security is passed by", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.CLASSIFY, "admit", f.IN_PORT(on.port("b1")))
    return "h1", on.change("h1", row, *row.actions[:-1], Goto(t.ROUTER))


@planted("a missing drop: ARP for a foreign address", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h1", on.row("h1", t.ARP_SPOOF, "foreign", f.IN_PORT(on.port("b1")), f.ETH_TYPE(f.ARP)))
    return "h1", on.row("h1", t.ARP_SPOOF, "miss")


@planted("a missing drop: neighbour advertisements", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h1", on.row("h1", t.ARP_SPOOF, "foreign", f.IN_PORT(on.port("b1")), f.ETH_TYPE(f.IPV6)))
    return "h1", on.row("h1", t.ARP_SPOOF, "miss")


@planted("too wide a match: any IPv4 address", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.MAC_SPOOF, "own", f.IN_PORT(on.port("b1")), f.IPV4_SRC("10.0.1.11"))
    match = when(*(one for one in row.match.criteria if one.field is not f.IPV4_SRC))
    return "h1", on.change("h1", row, *row.actions, match=match)


@planted("too wide a match: a prefix for one address", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.MAC_SPOOF, "own", f.IN_PORT(on.port("b1")), f.IPV4_SRC("10.0.1.11"))
    match = when(*(one for one in row.match.criteria if one.field is not f.IPV4_SRC), f.IPV4_SRC("10.0.1.0/28"))
    return "h1", on.change("h1", row, *row.actions, match=match)


@planted("foreign MACs go on", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = next(one for one in on.flows["h1", t.BR_INT] if one.table is t.MAC_SPOOF
               and one.match == when(f.IN_PORT(on.port("b1"))))
    return "h1", on.change("h1", row, Goto(t.ROUTER))


@planted("a VM may answer as a DHCP server", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h1", on.row("h1", t.MAC_SPOOF, "server", f.IN_PORT(on.port("b1")), f.UDP_SRC(67)))
    return "h1", on.row("h1", t.MAC_SPOOF, "own", f.IN_PORT(on.port("b1")), f.IPV4_SRC("10.0.1.11"))


@planted("a VM may advertise itself as a router", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.MAC_SPOOF, "server", f.IN_PORT(on.port("b1")), f.ICMPV6_TYPE(134))
    return "h1", on.change("h1", row, Goto(t.ROUTER))


@planted("another's address may be used", "spoofing")
def _(on: Ground) -> tuple[str, Flow | None]:
    match = when(f.IN_PORT(on.port("b1")), f.ETH_TYPE(f.IPV4), f.IPV4_SRC("10.0.1.12"))
    return "h1", on.add("h1", t.MAC_SPOOF, 9, match, Goto(t.ROUTER))


@planted("an own address may not be used", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    match = when(f.IN_PORT(on.port("b1")), f.ETH_TYPE(f.IPV4), f.IPV4_SRC("10.0.1.11"), f.IP_PROTO(f.UDP))
    return "h1", on.add("h1", t.MAC_SPOOF, 9, match)


# ---- br-int: where does it go

@planted("a MAC's frames go to another tenant's port", "isolation", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "known", tagged(on.vlan("h1", "blue")), f.ETH_DST(on.mac("b1")))
    return "h1", on.change("h1", row, PopVlan(), Output(on.port("g1")))


@planted("broadcasts reach another tenant's port, too", "isolation")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "flood", tagged(on.vlan("h1", "blue")))
    return "h1", on.change("h1", row, *row.actions, Output(on.port("g1")))


@planted("a port is left out of broadcasts", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h2", t.DELIVER, "flood", tagged(on.vlan("h2", "blue")))
    kept = [one for one in row.actions if one != Output(on.port("b2"))]
    return "h2", on.change("h2", row, *kept)


@planted("a frame keeps its tag", "tag")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "known", tagged(on.vlan("h1", "blue")), f.ETH_DST(on.mac("b1")))
    return "h1", on.change("h1", row, Output(on.port("b1")))


@planted("a local MAC is not known", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h2", on.row("h2", t.DELIVER, "known", tagged(on.vlan("h2", "blue")), f.ETH_DST(on.mac("b2"))))
    return "h2", on.row("h2", t.DELIVER, "unknown", tagged(on.vlan("h2", "blue")))


@planted("unknown unicast goes to a VM", "wrong port")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "unknown", tagged(on.vlan("h1", "blue")))
    return "h1", on.change("h1", row, *row.actions, PopVlan(), Output(on.port("b1")))


@planted("a sender is replaced on the way", "rewritten")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "known", tagged(on.vlan("h1", "blue")), f.ETH_DST(on.mac("b1")))
    return "h1", on.change("h1", row, SetField(f.ETH_SRC("fa:16:3e:00:00:99")), *row.actions)


@planted("a pair is cut by a row above", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    match = when(tagged(on.vlan("h2", "blue")), f.ETH_SRC(on.mac("b1")), f.ETH_DST(on.mac("b2")))
    return "h2", on.add("h2", t.DELIVER, 9, match)


@planted("a frame comes back to who sent it", "wrong port")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "flood", tagged(on.vlan("h1", "green")))
    return "h1", on.change("h1", row, *row.actions, OutputBack())


# ---- br-tun

@planted("a swapped tunnel id on the way out", "isolation", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.FLOOD, "network", tagged(on.vlan("h1", "blue")))
    return "h1", on.change("h1", row, PopVlan(), SetField(f.TUN_ID(2001)), *row.actions[2:])


@planted("a swapped tunnel id on the way in", "isolation", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h2", t.TUNNEL_TO_VLAN["vxlan"], "known", f.TUN_ID(1001))
    return "h2", on.change("h2", row, PushVlan(), SetField(tagged(on.vlan("h2", "green"))), row.actions[-1])


@planted("a tunnel is left out of the flood", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.FLOOD, "network", tagged(on.vlan("h1", "blue")))
    kept = [one for one in row.actions if one != Output(on.tunnel("h1", "h2"))]
    return "h1", on.change("h1", row, *kept)


@planted("a tunnel is not listened to", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h2", on.row("h2", t.FROM, "known", f.IN_PORT(on.tunnel("h2", "h1"))))
    return "h2", on.row("h2", t.FROM, "miss")


@planted("an unknown host's tunnel is listened to", "stranger")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", on.change("h1", on.row("h1", t.FROM, "stranger"), Goto(t.TUNNEL_TO_VLAN["vxlan"]))


@planted("what comes by a tunnel goes on into others", "loop")
def _(on: Ground) -> tuple[str, Flow | None]:
    first = None
    for host in ("h1", "h2", "h3"):
        row = on.row(host, t.LEARN, "miss")
        changed = on.change(host, row, *row.actions, Resubmit(t.FLOOD))
        first = first or changed
    return "", first


@planted("a stale learned flow", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", _learned(on, "h1", "b2", on.tunnel("h1", "h3"), 1001)


@planted("a learned flow with another network's tunnel id", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", _learned(on, "h1", "b2", on.tunnel("h1", "h2"), 2001)


@planted("a learned flow that goes nowhere", "black hole")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", _learned(on, "h1", "b2", 999, 1001)


def _learned(on: Ground, host: str, name: str, port: int, tunnel_id: int) -> Flow:
    match = when(tagged(on.vlan(host, "blue")), f.ETH_DST(on.mac(name)))
    return on.add(host, t.UNICAST, t.UNICAST.ranks["learned"], match, PopVlan(), SetField(f.TUN_ID(tunnel_id)),
                  Output(port), origin="learned")


@planted("what is learned leads into another network", "isolation")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h2", t.LEARN, "miss")
    learn = next(one for one in row.actions if isinstance(one, Learn))
    return "h2", on.change("h2", row, SetField(f.TUN_ID(2001)), learn, row.actions[-1])


@planted("the topology's MAC behind the wrong tunnel", "black hole", forwarding="l2population")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.UNICAST, "populated", tagged(on.vlan("h1", "blue")), f.ETH_DST(on.mac("b2")))
    return "h1", on.change("h1", row, *row.actions[:-1], Output(on.tunnel("h1", "h3")))


@planted("a MAC that the topology knows is missing", "black hole", forwarding="l2population")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h1", on.row("h1", t.UNICAST, "populated", tagged(on.vlan("h1", "blue")), f.ETH_DST(on.mac("b2"))))
    return "h1", on.row("h1", t.UNICAST, "miss")


@planted("an ARP answer with another's MAC", "rewritten", forwarding="l2population", also="responder")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.ARP_RESPONDER, "known", tagged(on.vlan("h1", "blue")), f.ARP_TPA("10.0.1.12"))
    wrong = [SetField(f.ARP_SHA(on.mac("b3"))) if isinstance(one, SetField) and one.criterion.field is f.ARP_SHA
             else one for one in row.actions]
    return "h1", on.change("h1", row, *wrong)


# ---- security groups

@planted("a filtered port is handed its frames past its groups", "security group", firewall="openvswitch")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.DELIVER, "known", tagged(on.vlan("h1", "blue")), f.ETH_DST(on.mac("b1")))
    return "h1", on.change("h1", row, PopVlan(), Output(on.port("b1")))


@planted("a rule lets any port in", "security group", firewall="openvswitch")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = next(row for row in on.flows["h1", t.BR_INT] if row.table is t.RULES and row.match[f.CT_TP_DST])
    match = when(*(one for one in row.match.criteria if one.field is not f.CT_TP_DST))
    return "h1", on.change("h1", row, *row.actions, match=match)


@planted("a rule is missing", "black hole", firewall="openvswitch")
def _(on: Ground) -> tuple[str, Flow | None]:
    on.remove("h1", next(row for row in on.flows["h1", t.BR_INT] if row.table is t.RULES and row.match[f.CT_TP_DST]))
    return "h1", on.row("h1", t.RULES, "denied", f.REG_OUT_PORT(on.port("b1")))


@planted("what no rule allows is accepted", "security group", firewall="openvswitch")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = next(row for row in on.flows["h1", t.BR_INT] if row.table is t.RULES
               and row.match == when(f.REG_OUT_PORT(on.port("b1"))))
    return "h1", on.change("h1", row, Goto(t.ACCEPTED))


@planted("a filtered port speaks past its groups", "security group", firewall="openvswitch")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h1", t.BASE_EGRESS, "ip", f.ETH_TYPE(f.IPV6))
    return "h1", on.change("h1", row, Resubmit(t.ROUTER))


@planted("what iptables does not see comes in", "security group", firewall="iptables_hybrid")
def _(on: Ground) -> tuple[str, Flow | None]:
    return "h1", on.change("h1", on.row("h1", t.BASE_INGRESS, "miss"), Goto(t.ONWARD))


# ---- routers and the outside

@planted("a router's leg leads into another tenant's network", "black hole", also="router")
def _(on: Ground) -> tuple[str, Flow | None]:
    rows = [row for row in on.flows["h3", t.BR_INT] if row.table is t.LEAVE and row.actions]
    row = next(one for one in rows if SetField(tagged(on.vlan("h3", "blue"))) in one.actions)
    return "h3", on.change("h3", row, PushVlan(), SetField(tagged(on.vlan("h3", "green"))), row.actions[-1])


@planted("a router listens to another tenant", "isolation", also="router")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = on.row("h3", t.ROUTER, "ip", tagged(on.vlan("h3", "blue")), f.ETH_TYPE(f.IPV4))
    match = when(tagged(on.vlan("h3", "green")), *(one for one in row.match.criteria if one.field is not f.VLAN_VID))
    return "h3", on.add("h3", t.ROUTER, 9, match, *row.actions)


@planted("a provider's VLAN is another one outside", "isolation", also="street")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = next(row for row in on.flows["h1", "br-dc"] if any(isinstance(one, SetField) for one in row.actions))
    return "h1", on.change("h1", row, SetField(tagged(101)), *row.actions[1:])


@planted("a provider's VLAN leads into a tenant's network", "isolation", also="street")
def _(on: Ground) -> tuple[str, Flow | None]:
    row = next(row for row in on.flows["h1", t.BR_INT] if row.table is t.CLASSIFY and tagged(100) in row.match.criteria)
    return "h1", on.change("h1", row, SetField(tagged(on.vlan("h1", "blue"))), *row.actions[1:])


INTACT = tuple(Case(f"{forwarding} {firewall} {also}", frozenset(), lambda on: ("", None), forwarding, firewall, also)
               for forwarding, firewall, also in (
                   ("learning", "none", "street"), ("l2population", "none", "responder"),
                   ("learning", "openvswitch", ""), ("learning", "iptables_hybrid", "router")))

__all__ = ("CASES", "INTACT", "Case", "Flows", "Ground", "planted")
