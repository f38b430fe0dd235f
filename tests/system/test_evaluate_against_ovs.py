"""Our walk through the tables and Open vSwitch's own, for random packets: the same flows hit, sent and learned.

The dummy datapath asks nothing of the machine; `ofproto/trace -generate` translates a packet as if it had come.
"""
from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest

from controller.model import placement, reading
from controller.model.topology import Topology
from flows import cookie as cookies
from flows import fields as f
from flows.cookie import cookie_of
from flows.evaluate import Pipeline, Walk
from flows.flow import Flow, Learn, LearnPort, Metered, Output, SetField, Track
from flows.packet import Packet, frame
from flows.port_security import link_local
from flows.tables import BR_INT, LEAVE
from flows.text import actions_text, line
from flows.tracking import Conntrack
from tests.clouds import CASES, golden, tables
from tests.ovstrace import Traced, larger_too, traced
from tests.private_ovs import Control, PrivateOvs
from tests.random_clouds import random_cloud

pytestmark = [pytest.mark.system, pytest.mark.shared]

PACKETS = 200  # for each case, over all of its bridges
CLOUDS, IN_RANDOM_CLOUDS = 20, 5000  # random ones, and packets in all of them
BRIDGES = 3  # of each, at most
FIREWALLS = ("", "iptables_hybrid", "openvswitch")  # the first is without security groups
ROUTED = 10  # times as many where there are routers
TO_ROUTERS = 0.7  # of the packets of a host with routers
PATCH = 1  # the patch port between br-int and br-tun, in imagined numbers
STRANGER = 50  # a port that the topology does not know
COMPARED = (f.ETH_SRC, f.ETH_DST, f.IPV4_SRC, f.IPV4_DST, f.IP_TTL, f.ARP_OP, f.ARP_SPA, f.ARP_TPA, f.ARP_SHA,
            f.ARP_THA, f.TUN_ID, *f.REGISTERS)
STATES = ("new", "new", "new,snat", "new,dnat", "est", "est,rpl", "est,snat", "est,rpl,snat", "est,dnat", "rel", "inv")
TRACKED = 6  # as often as one packet may be tracked
HUGE = 60_000  # bytes, larger than any MTU


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    with PrivateOvs() as running:
        yield running


# ---- packets

@dataclass
class Traffic:
    """Random packets made of what a host's tables speak of, and of what they do not."""

    random: random.Random
    bridge: str
    ports: list[int]
    macs: list[str]
    addresses: list[str]  # IPv4
    addresses6: list[str]
    vlans: list[int]
    tunnel_ids: list[int]
    legs: list[tuple[str, int]]  # MACs of routers' legs here, and the VLANs that they are on

    def packet(self) -> tuple[Packet, int]:
        """A packet and the port it comes in by."""
        pick = self.random.choice
        if self.legs and self.random.random() < TO_ROUTERS:
            mac, vlan = pick(self.legs)
            kind = pick([self._arp, *[self._ip4] * 9])
            return kind(pick(self.macs), mac).with_(vlan_vid=f.VLAN_PRESENT | vlan), PATCH
        destination = pick([*self.macs, f.BROADCAST, f.BROADCAST, "33:33:00:00:00:01", "01:00:5e:00:00:12"])
        kind = pick([self._arp, self._arp, self._ip4, self._ip4, self._ip6, self._ip6, self._other])
        packet = kind(pick(self.macs), destination)
        in_port = pick([*self.ports, *self.ports, STRANGER])
        if self.bridge != BR_INT and in_port != PATCH:
            packet = packet.with_(tunnel_id=pick([*self.tunnel_ids, 4711]))
        if self.random.random() < (0.1 if in_port != PATCH else 0.9):
            packet = packet.with_(vlan_vid=f.VLAN_PRESENT | pick([*self.vlans, *self.vlans, 0, 99]))
        return packet, in_port

    def _arp(self, src: str, dst: str) -> Packet:
        pick = self.random.choice
        return frame(src, dst, f.ARP, {
            f.ARP_OP: pick([1, 1, 2, 3]), f.ARP_SHA: pick([src, src, pick(self.macs)]),
            f.ARP_SPA: pick([*self.addresses, "0.0.0.0"]), f.ARP_THA: pick(["00:00:00:00:00:00", *self.macs]),
            f.ARP_TPA: pick(self.addresses)})

    def _ip4(self, src: str, dst: str) -> Packet:
        pick = self.random.choice
        packet = frame(src, dst, f.IPV4, {f.IPV4_SRC: pick([*self.addresses, "0.0.0.0", "127.0.0.1"]),
                                          f.IPV4_DST: pick([*self.addresses, "255.255.255.255"]),
                                          f.IP_TTL: pick([0, 1, 2, 64, 64, 64, 255])})
        ports = pick([(68, 67), (67, 68), (1234, 53)])
        return packet.with_(**pick([{"ip_proto": 1, "icmpv4_type": 8},
                                    {"ip_proto": f.UDP, "udp_src": ports[0], "udp_dst": ports[1]},
                                    {"ip_proto": 6, "tcp_src": 4000, "tcp_dst": 80}]))

    def _ip6(self, src: str, dst: str) -> Packet:
        pick = self.random.choice
        packet = frame(src, dst, f.IPV6, {f.IPV6_SRC: pick([*self.addresses6, "::"]),
                                          f.IPV6_DST: pick([*self.addresses6, "ff02::1"])})
        if self.random.random() < 0.2:
            return packet.with_(ip_proto=f.UDP, udp_src=546, udp_dst=547)
        kind = pick([128, 133, 134, 135, 136, 136, 143])
        packet = packet.with_(ip_proto=f.ICMPV6, icmpv6_type=kind)
        return packet.set(f.ND_TARGET(pick(self.addresses6))) if kind in (135, 136) else packet

    def _other(self, src: str, dst: str) -> Packet:
        return frame(src, dst, self.random.choice([f.RARP, 0x88CC, 0x0842]))


def traffic(seed: str, cloud: Topology, host: str, bridge: str) -> Traffic:
    seen = placement.imagined(cloud, host)
    macs, addresses, addresses6 = ["fa:16:3e:ff:ff:ff"], ["203.0.113.9", "198.51.100.7"], ["2001:db8:9::9", "fe80::1"]
    for port in cloud.ports():
        macs += [port.mac, *(pair.mac for pair in port.allowed_address_pairs)]
        for one in (port.ip, *(pair.ip.network_address for pair in port.allowed_address_pairs)):
            (addresses if one.version == 4 else addresses6).append(str(one))
        addresses6.append(str(link_local(port.mac)))
    for leg in itertools.chain.from_iterable(cloud.legs_by_router.values()):
        macs.append(leg.mac)
        addresses.append(str(leg.ip))
    addresses += (str(floating.address) for floating in cloud.floating_ips)
    legs = [(leg.mac, seen.vlans[leg.network]) for leg in cloud.legs_by_host.get(host, ()) if bridge == BR_INT]
    tunnel_ids = [network.tunnel_id for network in cloud.networks.values() if network.tunnel_id is not None]
    return Traffic(random.Random(seed), bridge, sorted(seen.ports[bridge].values()), macs, addresses, addresses6,
                   sorted(seen.vlans.values()) or [1], tunnel_ids, legs)


@dataclass(frozen=True)
class Scripted(Conntrack):
    """Connection tracking that says what it was told to say; so does Open vSwitch's while it traces.

    It translates as a `ct` with an address says, and nothing else: a trace knows no connections, and so neither how one
    began.
    """

    states: tuple[str, ...] = ()

    def track(self, action: Track, packet: Packet) -> tuple[Packet, Scripted]:
        if action.table is None:
            return packet.untracked(), self
        state, *later = self.states or ("new",)
        flags = sum(f.CT_FLAGS[name] for name in (*state.split(","), "trk"))
        if action.translation:
            field = f.IPV4_SRC if action.translation.end == "src" else f.IPV4_DST
            packet = packet.set(field(int(action.translation.address)))
        return packet.with_(ct_state=flags), Scripted(states=tuple(later))


def words(packet: Packet, in_port: int) -> str:
    """A packet as `ofproto/trace` wants it."""
    text = [f"dl_type={packet.get(f.ETH_TYPE):#06x}", f"in_port={in_port}", f"vlan_tci={packet.get(f.VLAN_VID):#06x}"]
    numbers = {"icmpv4_type": "icmp_type", **{name: name for name in (
        "tcp_src", "tcp_dst", "udp_src", "udp_dst", "icmpv6_type")}}
    shown = {field.name: field for field in f.FIELDS}
    # What others need comes first: ovs-appctl reads from left to right.
    for name, value in sorted(packet.items, key=lambda item: (item[0] != "ip_proto", "icmp" not in item[0])):
        if name in numbers:
            text.append(f"{numbers[name]}={value}")
        elif name == "tunnel_id":
            text += [f"tun_id={value:#x}"] if value else []
        elif name not in ("vlan_vid", "eth_type"):
            text.append(f"{shown[name].ofctl}={shown[name].show(value)}")
    return ",".join(text)


# ---- both, side by side

def ofports(control: Control, bridge: str) -> dict[int, int]:
    """Datapath port -> OpenFlow port."""
    (part,) = re.findall(rf"^  {bridge}:\n((?:    .*\n)*)", control.ask("dpif/show") + "\n", re.MULTILINE)
    return {int(datapath): int(ofport) for ofport, datapath in re.findall(r" (\d+)/(\d+): ", part)}


def compare(walk: Walk, real: Traced, deeds: Mapping[int, str], learned: list[Flow]) -> None:
    """`deeds` is what the flows of each cookie do: of two that match and do the same, a switch may hit either."""
    hits = [(step.table.id, step.flow.priority, "learned" if step.flow in learned else actions_text(step.flow.actions))
            for way in walk.ways for step in way.steps[way.shared:] if step.flow]
    theirs = [(table, priority, deeds[cookie]) for table, priority, cookie in real.hits]
    sent = [(port, packet.vlan) for port, packet in walk.outputs]
    assert len(walk.asked) == real.asked
    if walk.copies:  # a trace tells of copies that are tracked last
        assert (sorted(hits), sorted(sent, key=repr)) == (sorted(theirs), sorted(real.outputs, key=repr))
        return
    assert (hits, sent) == (theirs, real.outputs)
    if real.final is None:
        return
    after = walk.last.after
    for field in COMPARED:
        # It shows empty ARP fields for a RARP; we have none. A register of 0 is not shown.
        assert after.get(field) is None or real.final.get(field.ofctl, after.shown(field)) == after.shown(field)
    # dl_vlan stands there only for a tagged frame
    assert ("dl_vlan" in real.final) == (after.vlan is not None)


def learned_lines(ovs: PrivateOvs, bridge: str) -> list[str]:
    rows = [row.partition(", ") for row in ovs.dump(bridge)]
    return sorted(rest.partition("priority=")[2] for cookie, _, rest in rows
                  if cookies.is_learned(int(cookie.removeprefix("cookie="), 16)))


def learned_text(row: Flow) -> str:
    """Our learned flow as Open vSwitch prints its own."""
    vlan, mac = row.match[f.VLAN_VID], row.match[f.ETH_DST]
    assert vlan and mac
    (field, value), = ((action.criterion.field, action.criterion.value) for action in row.actions
                       if isinstance(action, SetField))
    if field == f.REG_OUT_PORT:
        does = f"load:{value:#x}->NXM_NX_REG6[0..15]"
    else:
        (port,) = (action.port for action in row.actions if isinstance(action, Output))
        does = f"load:0->NXM_OF_VLAN_TCI[],load:{value:#x}->NXM_NX_TUN_ID[],output:{port}"
    return (f"{row.priority},vlan_tci={vlan.value & ~f.VLAN_PRESENT:#06x}/0x0fff,"
            f"dl_dst={mac.field.show(mac.value)} actions={does}")


@pytest.mark.parametrize("case", CASES)
def test_random_packets_go_the_same_way_on_paper_as_in_open_vswitch(ovs: PrivateOvs, case: str, seed: int) -> None:
    cloud = golden(case)
    places = [(host, bridge) for host in cloud.hosts for bridge in tables(cloud, host)]
    for host, bridge in places:
        flows = tables(cloud, host)[bridge]
        routed = any(row.table == LEAVE and row.match.criteria for row in flows)
        on_one_bridge(ovs, flows, traffic(f"{seed} {case} {host} {bridge}", cloud, host, bridge),
                      -(-PACKETS // len(places)) * (ROUTED if routed else 1))


@pytest.mark.parametrize("number", range(CLOUDS))
def test_so_they_do_in_random_clouds(ovs: PrivateOvs, number: int, seed: int) -> None:
    pick = random.Random(f"{seed} {number}")
    cloud = None
    while cloud is None or not any(cloud.ports()):
        text = random_cloud(pick, ("simulated", "namespace"), outside=True, edge=FIREWALLS[number % len(FIREWALLS)])
        cloud = reading.parse(text, "topology.yaml").topology
    places = [(host, bridge) for host in cloud.hosts for bridge in tables(cloud, host)]
    chosen = pick.sample(places, min(BRIDGES, len(places)))
    for host, bridge in chosen:
        source = traffic(f"{seed} {number} {host} {bridge}", cloud, host, bridge)
        on_one_bridge(ovs, tables(cloud, host)[bridge], source,
                      -(-IN_RANDOM_CLOUDS // CLOUDS // len(chosen)))


def on_one_bridge(ovs: PrivateOvs, flows: tuple[Flow, ...], source: Traffic, count: int) -> None:
    """So many packets through the flows of a bridge that is made for it."""
    bridge = source.bridge
    ovs.add_bridge(bridge, {f"{bridge[3:]}{number}": number for number in {*source.ports, STRANGER}})
    try:
        for meter in {action.meter for row in flows for action in row.actions if isinstance(action, Metered)}:
            ovs.run("ovs-ofctl", "-O", "OpenFlow14", "add-meter", bridge, f"meter={meter},pktps,band=type=drop,rate=9")
        ovs.add_flows(bridge, (f"cookie={cookie_of(row):#x},{line(row)}" for row in flows))
        side_by_side(ovs, flows, source, count)
    finally:
        ovs.del_bridge(bridge)


def side_by_side(ovs: PrivateOvs, flows: tuple[Flow, ...], source: Traffic, count: int) -> None:
    pipeline, learned = Pipeline(source.bridge, flows), {}
    deeds = {cookie_of(row): actions_text(row.actions) for row in flows}
    deeds |= {action.cookie: "learned" for row in flows for action in row.actions
              if isinstance(action, Learn | LearnPort)}
    with ovs.control() as control:
        numbers = ofports(control, source.bridge)
        for _ in range(count):
            packet, in_port = source.packet()
            said, states = words(packet, in_port), tuple(source.random.choices(STATES, k=TRACKED))
            told = [word for state in states for word in ("--ct-next", f"trk,{state}")]
            walk = pipeline.walk(packet, in_port, Scripted(states=states))
            text = control.ask("ofproto/trace", source.bridge, said, "-generate", *told)
            try:
                compare(walk, traced(text, packet.vlan, numbers), deeds, [*learned.values(), *walk.learned])
                if larger_too(text):
                    larger = pipeline.walk(replace(packet, size=HUGE), in_port, Scripted(states=states))
                    compare(larger, traced(text, packet.vlan, numbers, large=True), deeds, list(larger.learned))
            except AssertionError:
                print(f"{said} {' '.join(told)}\n{text}")
                raise
            pipeline = pipeline.with_(walk.learned)
            learned.update({row.match: row for row in walk.learned})
    assert learned_lines(ovs, source.bridge) == sorted(map(learned_text, learned.values()))
