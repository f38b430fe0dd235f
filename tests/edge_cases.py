"""Random conversations in a random cloud: who sends what to whom, step by step."""
from __future__ import annotations

import random
from dataclasses import dataclass, replace
from ipaddress import ip_address

from controller.model.topology import Port, Topology
from tests.edge_clouds import EDGES
from tests.edge_oracle import Meaning, link_local
from tests.edge_packets import GRE, ICMP, ICMPV6, OSPF, SCTP, TCP, UDP, Address, Packet

FIRST_PORT, LAST_PORT = 20000, 60000  # of who begins: above every port of a rule


@dataclass(frozen=True)
class Step:
    """One packet of a conversation. `targets`: whom its frame is handed to, if nobody minds."""

    source: str
    packet: Packet
    targets: tuple[str, ...]
    mac: str  # to which


@dataclass(frozen=True)
class Case:
    """A conversation: each step comes after the one before, whether that has arrived or not."""

    what: str
    steps: tuple[Step, ...]

    def later(self, whole: bool) -> Case:
        """What may follow in the same conversation at any time. `whole`: all its steps had been allowed.

        Of TCP that is what comes after the handshake; of a broken one, every tracking thinks something else.
        """
        steps = self.steps[::-1] if self.what.startswith("stray") else self.steps  # who is answered speaks first
        return Case(f"later, {self.what}", tuple(step for step in steps if self._goes_on(step, whole)))

    def _goes_on(self, step: Step, whole: bool) -> bool:
        protocol = (step.packet.quotes or step.packet).protocol
        if protocol == TCP:
            return step.packet.flags == "A" and (whole or len(self.steps) == 1)
        return protocol != SCTP  # Linux forgets one without data within three seconds


class Cases:
    """Conversations of one cloud of which no two can be mistaken for each other, in whatever order they come."""

    def __init__(self, topology: Topology, pick: random.Random) -> None:
        self._pick = pick
        self._next = FIRST_PORT
        self._used: set[tuple[int, frozenset[Address]]] = set()
        self.change(topology)

    def change(self, topology: Topology) -> None:
        """Cases for another topology, whose conversations are not those of the cases before."""
        self._topology = topology
        self._meaning = Meaning(topology)
        self._ports = list(topology.ports())

    def some(self, many: int) -> list[Case]:
        """As many that begin as that are refused, or nearly: those that chance gives come to nothing, mostly."""
        wanted = {True: many // 2, False: many - many // 2}
        found: list[Case] = []
        attempts = 0
        while len(found) < many:
            attempts += 1
            case = self._case()
            if case is not None and (wanted[good := self._begins(case)] > 0 or attempts > 50 * many):
                wanted[good] -= 1
                found.append(case)
        return found

    def _begins(self, case: Case) -> bool:
        first = case.steps[0]
        ports = self._meaning.ports
        return self._meaning.begins(ports[first.source], first.packet, out=True) and any(
            self._meaning.begins(ports[name], first.packet, out=False) for name in first.targets)

    def _case(self) -> Case | None:
        pick, source = self._pick, self._pick.choice(self._ports)
        make = pick.choice((self._talk, self._talk, self._talk, self._talk, self._stray, self._crowd, self._crossing,
                            self._odd))
        return make(source)

    def _port(self) -> int:
        self._next += 1
        if self._next > LAST_PORT:
            raise AssertionError("more cases than ports")
        return self._next

    # ---- kinds of cases

    def _talk(self, source: Port) -> Case | None:
        """A question, its answer, what follows, and a complaint about the question."""
        first = self._question(source)
        if first is None:
            return None
        back = self._to(first.targets[0], first.packet.answer(), source)
        steps = [first, back]
        if first.packet.protocol == TCP:
            steps.append(replace(first, packet=back.packet.answer()))
            steps.append(replace(back, packet=steps[-1].packet.answer()))
        elif first.packet.protocol != SCTP:
            steps += [first, back]
        steps.append(self._complaint(first, back))
        return Case("talk", tuple(steps))

    def _stray(self, source: Port) -> Case | None:
        """An answer, or a complaint, to what nobody has said; then the question that it would have answered."""
        first = self._question(source)
        if first is None or first.packet.protocol == SCTP:  # without its INIT, only Linux calls it invalid
            return None
        back = self._to(first.targets[0], first.packet.answer(), source)
        if self._pick.random() < 0.4:
            return Case("stray complaint", (self._complaint(first, back), first))
        if back.packet.protocol not in (TCP, ICMP, ICMPV6):
            return Case("began at the other end", (back, first))
        return Case("stray answer", (back,) if back.packet.protocol == TCP else (back, first, back))

    def _crossing(self, source: Port) -> Case | None:
        """What goes on without a beginning that anybody here has seen."""
        first = self._question(source)
        if first is None or first.packet.protocol != TCP:
            return None
        follows = replace(first, packet=replace(first.packet, flags="A"))
        return Case("without a beginning", (follows,))

    def _odd(self, source: Port) -> Case | None:
        """ICMP that no tracking takes for the beginning of anything, or one of them alone."""
        first = self._question(source)
        if first is None or first.packet.protocol not in _ODD or self._meaning.ports[first.targets[0]].network != \
                source.network:
            return None
        kind, code = self._pick.choice(_ODD[first.packet.protocol])
        return Case("odd", (replace(first, packet=replace(first.packet, icmp_type=kind, icmp_code=code)),))

    def _crowd(self, source: Port) -> Case | None:
        """A packet to everybody on the network."""
        others = tuple(port.name for port in self._ports if port.network == source.network and port != source)
        v4 = source.ip.version == 4
        group = self._pick.choice(_CROWDS[source.ip.version])
        to = self._topology.subnets[source.subnet].cidr.broadcast_address if group is None else ip_address(group)
        packet = self._packet(UDP if self._pick.random() < 0.8 or not v4 else OSPF, source.ip, to)
        if packet is None or not others:
            return None
        raw = to.packed
        mac = "33:33:" + raw[-4:].hex(":") if not v4 else f"01:00:5e:{raw[1] & 127:02x}:{raw[2]:02x}:{raw[3]:02x}"
        mac = mac if to.is_multicast else "ff:ff:ff:ff:ff:ff"
        return Case("to everybody", (Step(source.name, packet, others, mac),) * 2)

    def _complaint(self, first: Step, back: Step) -> Step:
        ports = self._meaning.ports
        packet = first.packet.error(ports[back.source].ip if first.packet.destination.version == 4
                                    else first.packet.destination)
        return replace(back, packet=packet)

    # ---- their packets

    def _question(self, source: Port) -> Step | None:
        others = [port for port in self._ports if port != source and self._meets(source, port)]
        if not others:
            return None
        target = self._pick.choice(others)
        neighbours = source.network == target.network
        # A VM of the lab answers for its own address alone when a router asks for another.
        mine, theirs = (self._address(source), self._address(target)) if neighbours else (source.ip, target.ip)
        if neighbours and (source.ip.version != target.ip.version or self._pick.random() < 0.08):
            mine, theirs = link_local(source.mac), link_local(target.mac)
        if mine.version != theirs.version:
            return None
        packet = self._packet(self._protocol(mine.version), mine, theirs)
        return None if packet is None else self._to(source.name, packet, target)

    def _meets(self, source: Port, target: Port) -> bool:
        if source.network == target.network:
            return source.ip.version == target.ip.version or self._pick.random() < 0.1
        return {source.network, target.network} == {"blue", "data"} and source.ip.version == target.ip.version == 4

    def _address(self, port: Port) -> Address:
        """Its own, or one of a pair that goes with its own MAC."""
        if port.allowed_address_pairs and self._pick.random() < 0.4:
            prefix = self._pick.choice(port.allowed_address_pairs).ip
            return prefix[self._pick.randrange(prefix.num_addresses)]
        return port.ip

    def _protocol(self, version: int) -> int:
        return self._pick.choices((TCP, UDP, ICMP if version == 4 else ICMPV6, SCTP, GRE, OSPF, 253),
                                  (35, 35, 18, 4, 3, 3, 2))[0]

    def _packet(self, protocol: int, source: Address, target: Address) -> Packet | None:
        pick = self._pick
        if protocol in (TCP, UDP):
            dport = max(1, pick.choice(EDGES) + pick.choice((-1, 0, 0, 1)))
            return Packet(protocol, source, target, self._port(), dport)
        if protocol in (ICMP, ICMPV6):
            kind = pick.choice((8, 8, 13)) if protocol == ICMP else 128
            return Packet(protocol, source, target, self._port(), icmp_type=kind, icmp_code=pick.choice((0, 0, 0, 1)))
        # These are known by their addresses alone: one conversation between any two.
        which = protocol, frozenset((source, target))
        if which in self._used:
            return None
        self._used.add(which)
        if protocol == SCTP:
            return Packet(protocol, source, target, self._port(), pick.choice(EDGES))
        return Packet(protocol, source, target)

    def _to(self, source: str, packet: Packet, target: Port) -> Step:
        own = self._meaning.ports[source]
        return Step(source, packet, (target.name,), target.mac if own.network == target.network
                    else self._gateway(own.network))

    def _gateway(self, network: str) -> str:
        return next(leg.mac for leg in self._topology.legs_by_network[network] if not leg.outside)


# Types and codes (RFC 792, 950, 1256; RFC 4443, 2710, 4861, 3810, 4620): some of the latter nobody filters.
_ODD = {ICMP: ((0, 0), (3, 1), (5, 0), (8, 1), (9, 0), (10, 0), (13, 2), (14, 0), (16, 0), (17, 0), (18, 0), (42, 0)),
        ICMPV6: ((1, 0), (2, 0), (128, 1), (129, 0), (130, 0), (131, 0), (132, 0), (133, 0), (139, 0), (140, 0),
                 (143, 0))}
_CROWDS = {4: ("255.255.255.255", None, "224.0.0.251", "239.1.2.3"), 6: ("ff02::fb", "ff02::1:3", "ff05::2")}


def kinds(cases: list[Case]) -> str:
    """How many cases of each kind there are, in words."""
    found = sorted({case.what for case in cases})
    return ", ".join(f"{sum(case.what == kind for case in cases)} {kind}" for kind in found)
