"""What becomes of a ping, from the topology alone: the question for the MAC, its answer, then the echo request."""
from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from controller.model.placement import Seen
from controller.model.topology import Address, Port, Topology
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.journey import Journey, Leg, hops, story
from controller.tools.simulate import Cloud, Ending
from flows import fields as f
from flows import packet as packets

__all__ = ["Journey", "story", "trace"]

DELIVERED, DROPPED = "delivered", "dropped"


def trace(topology: Topology, src: str, dst: str, seen: Mapping[str, Seen] | None = None) -> Journey:
    """The journey of a ping from one VM to another, or to an address in the network of the first.

    Names are those of VMs (their first port) or of ports (`fw1:eth1`). `seen`: a host's numbers, where they are known
    from its switch; the rest is as on a host that has just been built. Refusal for a name that there is not.
    """
    source = _port(topology, src)
    try:
        target = _Target(ip_address(dst), dst, None)
    except ValueError:
        port = _port(topology, dst)
        target = _Target(port.ip, port.name, port)
    return _Trace(topology, Cloud(topology, seen), source, target).journey()


def _port(topology: Topology, name: str) -> Port:
    if name in topology.vms and topology.vms[name].ports:
        return topology.vms[name].ports[0]
    ports = {port.name: port for port in topology.ports()}
    if name in ports:
        return ports[name]
    near = difflib.get_close_matches(name, [*topology.vms, *ports], n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(ports)) or 'none at all'}."
    raise Refusal(f"{topology.source} has no VM or port named {name!r}; {hint}", BAD_INPUT)


@dataclass(frozen=True)
class _Target:
    address: Address
    name: str  # as the user said it
    port: Port | None  # None: only the address was given


@dataclass(frozen=True)
class _Trace:
    topology: Topology
    cloud: Cloud
    source: Port
    target: _Target

    def journey(self) -> Journey:
        source, target = self.source, self.target
        if target.port == source or (target.port is None and target.address == source.ip):
            return Journey(DELIVERED, f"{source.name} talks to itself; nothing leaves it", ())
        if self.topology.networks[source.network].tunnel_id is None:
            return Journey(DROPPED, f"{source.network} is a network without an overlay, which is not built yet", ())
        if target.address.version != source.ip.version:
            return Journey(DROPPED, f"{source.name} has no IPv{target.address.version} address", ())
        subnet = self.topology.subnets[source.subnet]
        if target.address in subnet.cidr:
            return self._ask(target.address)
        if subnet.gateway is None:
            reason = f"{target.address} is outside of {subnet.cidr}, and {subnet.name} has no gateway"
            return Journey(DROPPED, f"{reason}{self._apart()}", ())
        return self._ask(subnet.gateway)

    def _ask(self, address: Address) -> Journey:
        """Who has the address (the target's, or its gateway's)?"""
        source = self.source
        question = (packets.arp_request if address.version == 4 else packets.neighbour_solicitation)(
            source.mac, source.ip, address)
        endings = self.cloud.send(source, question)
        answered = next((one for one in endings if _is_answer(one, source, address)), None)
        shown = answered or _most_telling(endings, self.target.port)
        heard = sorted({one.port.name for one in endings if one.port and one is not shown})
        ask = Leg(f"{source.name} asks who has {address}", tuple(hops(self.topology, source, question, shown)),
                  f"The same question came to {', '.join(heard)}." if heard else "")
        if answered is None or answered.port is None:
            return Journey(DROPPED, self._nobody(address, endings, shown), (ask,))
        if answered.port == source:  # br-tun answered instead of the owner
            mac = f.ETH_SRC.show(answered.packet.get(f.ETH_SRC) or 0)
            told = Leg(f"br-tun of {source.host} answers: {address} is at {mac}")
            return self._ping(mac, (ask, told))
        if self.target.port and self.target.port.network != source.network:
            twin = f"in {source.network}, {address} is {answered.port.name}, not {self.target.name}"
            return Journey(DROPPED, f"{twin}{self._apart()}", (ask,))
        return self._answer(answered.port, address, ask)

    def _answer(self, owner: Port, address: Address, ask: Leg) -> Journey:
        """The owner's answer goes back, and teaches the tunnels on its way."""
        source, mac = self.source, _mac_for(owner, address)
        answer = (packets.arp_reply if address.version == 4 else packets.neighbour_advertisement)(
            mac, address, source.mac, source.ip)
        endings = self.cloud.send(owner, answer)
        back = next((one for one in endings if one.port == source), None)
        if back is None:
            lost = endings[0]
            leg = Leg(f"{owner.name} answers", tuple(hops(self.topology, owner, answer, lost)))
            return Journey(DROPPED, f"the answer of {owner.name} is lost: {_why(lost)}", (ask, leg))
        learned = [f"{visit.host} learns that {mac} lives behind {visit.device}" for visit in back.visit.way
                   if visit.walk.learned]
        told = Leg(f"{owner.name} answers: {address} is at {mac}", aside="".join(f"{one}." for one in learned))
        return self._ping(mac, (ask, told))

    def _ping(self, mac: str, before: tuple[Leg, ...]) -> Journey:
        source, target = self.source, self.target
        echo = packets.icmp_echo((source.mac, source.ip), (mac, target.address))
        endings = self.cloud.send(source, echo)
        reached = next((one for one in endings if one.port and _owns(one.port, target.address)), None)
        shown = reached or _most_telling(endings, target.port)
        ping = Leg(f"{source.name} pings {target.address}", tuple(hops(self.topology, source, echo, shown)))
        legs = (*before, ping)
        if reached is None or reached.port is None:
            return Journey(DROPPED, _why(shown), legs)
        got = f"{reached.port.name} got it on {reached.port.host}"
        return Journey(DELIVERED, f"{got}: {self._numbers(reached.port)}", legs)

    def _numbers(self, reached: Port) -> str:
        """The network's numbers on the way, which are what keeps it apart from others."""
        source, network = self.source, self.topology.networks[self.source.network]
        here = f"VLAN {self.cloud.seen(source.host).vlans[network.name]} on {source.host}"
        if reached.host == source.host:
            return f"{here}, no tunnel"
        there = f"VLAN {self.cloud.seen(reached.host).vlans[network.name]} on {reached.host}"
        return f"{here}, tunnel id {network.tunnel_id} between them, {there}"

    def _nobody(self, address: Address, endings: tuple[Ending, ...], shown: Ending) -> str:
        """Why there is no answer."""
        source, target = self.source, self.target
        asked = {one.port.name for one in endings if one.port}
        if not asked and not shown.visit.walk.outputs:
            return f"{_why(shown)}{self._apart()}"
        if address != target.address:
            return f"nobody in {source.network} is the gateway {address}{self._apart() or self._routers()}"
        if target.port and target.port.network == source.network:
            return f"{target.name} did not hear the question: {_why(shown)}"
        return f"nobody in {source.network} has {address}{self._apart()}"

    def _apart(self) -> str:
        """What keeps the two apart, if they are in different networks or subnets."""
        source, other = self.source, self.target.port
        if other is None or other.subnet == source.subnet:
            return ""
        where = f"{other.name} is on {other.network}, {source.name} on {source.network}"
        if other.network == source.network:
            where = f"{other.name} is on {other.subnet}, {source.name} on {source.subnet}"
        return f"; {where}, and {self._joint(source, other)}"

    def _joint(self, source: Port, other: Port) -> str:
        for router in self.topology.routers.values():
            if {source.subnet, other.subnet} <= {interface.subnet for interface in router.interfaces}:
                return f"the router {router.name} between them is not built by this version"
        return "no router joins them"

    def _routers(self) -> str:
        routers = [router.name for router in self.topology.routers.values()
                   if self.source.subnet in {interface.subnet for interface in router.interfaces}]
        return f": the router {routers[0]} is not built by this version" if routers else ": no router stands there"


def _is_answer(ending: Ending, source: Port, address: Address) -> bool:
    """The copy that came to the owner of the address, or back to the asker as an answer."""
    if ending.port is None:
        return False
    if ending.port == source:
        return ending.packet.get(f.ARP_OP) == f.ARP_REPLY
    return _owns(ending.port, address)


def _owns(port: Port, address: Address) -> bool:
    """Whether a VM would take the address for its own: the port's, or one spelled out in its address pairs."""
    pairs = (pair.ip for pair in port.allowed_address_pairs if pair.ip.prefixlen == pair.ip.max_prefixlen)
    return address == port.ip or any(address == one.network_address for one in pairs)


def _mac_for(port: Port, address: Address) -> str:
    if address == port.ip:
        return port.mac
    return next((pair.mac for pair in port.allowed_address_pairs if pair.ip.network_address == address), port.mac)


def _most_telling(endings: tuple[Ending, ...], wanted: Port | None) -> Ending:
    """Of the copies that missed their target, the one that came nearest to it."""
    def nearness(ending: Ending) -> tuple[bool, bool, int]:
        there = wanted is not None and ending.visit.host == wanted.host
        return there, ending.port is None, len(ending.visit.way)

    return max(endings, key=nearness)


def _why(ending: Ending) -> str:
    """The last flow's reason, with its place."""
    step = ending.visit.walk.last
    reason = step.flow.why if step.flow else "no flow matches"
    return f"{ending.visit.host}'s {ending.visit.bridge} drops it in {step.table.name}: {reason}"
