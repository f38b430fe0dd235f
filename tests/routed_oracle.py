"""Where a packet ends that crosses routers, told as a story about addresses in words: slow, plain, and on its own.

Nothing of controller/model's lookups is used but the objects as the file names them. Who has an address on a network
is written `port web1`, `router r1` or `internet`. IPv4 only.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from controller.model.topology import Port, Router, Topology
from tests.bits import within
from tests.edge_oracle import Meaning
from tests.edge_packets import ICMP, Packet

Question = tuple[str, str]  # who asks (an address), and whom
Memory = dict[tuple[str, Question], Question]  # (router, question as it left) -> the question as it came

FURTHEST = 40  # routers in a row


def interfaces(cloud: Topology, router: Router) -> list[tuple[str, str, str]]:
    """(network, prefix, address) of each IPv4 interface."""
    subnets = {subnet.name: subnet for network in cloud.networks.values() for subnet in network.subnets}
    return [(subnets[each.subnet].network, str(subnets[each.subnet].cidr), str(each.ip))
            for each in router.interfaces if each.ip.version == 4]


def way_out(cloud: Topology, router: Router) -> tuple[str, str, str, str] | None:
    """(network, prefix, address, next hop or nothing) of the gateway of a router that has an interface at all."""
    if router.gateway is None or not interfaces(cloud, router):
        return None
    for subnet in cloud.networks[router.gateway.network].subnets:
        if within(str(router.gateway.ip), str(subnet.cidr)):
            return subnet.network, str(subnet.cidr), str(router.gateway.ip), str(subnet.gateway or "")
    return None


def networks(cloud: Topology, router: Router) -> set[str]:
    """The networks that a router is on."""
    out = way_out(cloud, router)
    return {network for network, _, _ in interfaces(cloud, router)} | ({out[0]} if out else set())


def macs(cloud: Topology, network: str) -> set[str]:
    """Those of the routers' legs on a network."""
    found = set()
    for router in cloud.routers.values():
        if network in networks(cloud, router):
            found |= {each.mac for each in router.interfaces
                      if any(subnet.name == each.subnet for subnet in cloud.networks[network].subnets)}
            found |= {router.gateway.mac} if router.gateway and router.gateway.network == network else set()
    return found


def floating(cloud: Topology, router: Router) -> dict[str, str]:
    """Floating IP -> fixed address, of those that this router translates."""
    found = {}
    for one in cloud.floating_ips:
        cards = [port for port in cloud.vms[one.vm].ports if port.network == one.network and port.ip.version == 4]
        if cards and one.address.version == 4 and _translator(cloud, str(one.address), cards[0]) == router.name:
            found[str(one.address)] = str(cards[0].ip)
    return found


def _translator(cloud: Topology, address: str, card: Port) -> str | None:
    gateway = next(str(subnet.gateway) for subnet in cloud.networks[card.network].subnets if subnet.name == card.subnet)
    able = []
    for router in cloud.routers.values():
        out = way_out(cloud, router)
        beside = cloud.networks[out[0]].subnets if out else ()
        external = any(within(address, str(subnet.cidr)) for subnet in beside)
        on = [own for network, prefix, own in interfaces(cloud, router)
              if network == card.network and within(str(card.ip), prefix)]
        if external and on:
            able.append((on[0] != gateway, router.name))
    return min(able, key=lambda each: each[0])[1] if able else None


def has(cloud: Topology, network: str, address: str) -> str:
    """Who answers ARP for an address; nothing if nobody does."""
    for port in cloud.ports():
        if port.network == network and str(port.ip) == address:
            return f"port {port.name}"
    for router in cloud.routers.values():
        out = way_out(cloud, router)
        own = [each for net, _, each in interfaces(cloud, router) if net == network]
        own += [out[2], *floating(cloud, router)] if out and out[0] == network else []
        if address in own:
            return f"router {router.name}"
    if cloud.networks[network].physical_network and _is_used(cloud, network):
        gateways = [str(subnet.gateway) for subnet in cloud.networks[network].subnets if subnet.gateway]
        return "internet" if address in gateways else ""
    return ""


def _is_used(cloud: Topology, network: str) -> bool:
    return any(port.network == network for port in cloud.ports()) or any(
        network in networks(cloud, router) for router in cloud.routers.values())


def leads(cloud: Topology, router: Router, address: str) -> tuple[str, str] | None:
    """(network, next hop): the longest prefix; what a router is connected to comes before its routes."""
    ways = [(prefix, network, "") for network, prefix, _ in interfaces(cloud, router)]
    out = way_out(cloud, router)
    ways += [(out[1], out[0], "")] if out else []
    for route in router.routes:
        near = [network for prefix, network, nexthop in ways if not nexthop and within(str(route.nexthop), prefix)]
        if near and route.destination.version == 4:
            ways.append((str(route.destination), near[0], str(route.nexthop)))
    ways += [("0.0.0.0/0", out[0], out[3])] if out and out[3] else []
    fitting = [way for way in ways if within(address, way[0])]
    if not fitting:
        return None
    best = max(fitting, key=lambda way: int(way[0].split("/")[1]))
    return best[1], best[2] or address


# ---- questions and answers

def asks(cloud: Topology, source: Port, address: str) -> str:
    """Who answers a ping from this card, if the answer comes back to it; else nothing."""
    if not passes(cloud, source, (str(source.ip), address), out=True):
        return ""
    first = _leaves(cloud, source, address)
    memory: Memory = {}
    end, arrived = _question(cloud, first, (str(source.ip), address), memory)
    if end in {f"port {port.name}" for vm in cloud.vms.values() for port in vm.ports
               if arrived[0] in {str(card.ip) for card in vm.ports}}:
        return ""  # nobody answers himself
    came_back = _answer(cloud, end, arrived, memory) if _hears(cloud, end, arrived) else ""
    return end if came_back == f"port {source.name} to {source.ip} from {address}" else ""


def calls(cloud: Topology, network: str, gateway: str, address: str) -> str:
    """The same for the internet, which is a neighbour of the address by its own address on that network."""
    memory: Memory = {}
    end, arrived = _question(cloud, (network, address), (gateway, address), memory)
    came_back = _answer(cloud, end, arrived, memory) if _hears(cloud, end, arrived) else ""
    return end if came_back == f"internet to {gateway} from {address}" else ""


def passes(cloud: Topology, port: Port, question: Question, *, out: bool) -> bool:
    """Whether the security groups of a port let a ping out, or in."""
    packet = Packet(ICMP, ip_address(question[0]), ip_address(question[1]), icmp_type=8)
    return Meaning(cloud).begins(port, packet, out=out)


def _hears(cloud: Topology, who: str, question: Question) -> bool:
    ports = [port for port in cloud.ports() if who == f"port {port.name}"]
    return bool(who) and all(passes(cloud, port, question, out=False) for port in ports)


def _question(cloud: Topology, way: tuple[str, str] | None, question: Question, memory: Memory) -> tuple[str, Question]:
    """Follow a question to its end: who gets it, and what it says there."""
    for _ in range(FURTHEST):
        who = has(cloud, *way) if way else ""
        if way is None or not who.startswith("router "):
            mine = not who.startswith("port ") or (way is not None and way[1] == question[1])
            return (who if mine else ""), question
        router = cloud.routers[who.removeprefix("router ")]
        asked, came = question, way
        question = (question[0], floating(cloud, router).get(question[1], question[1]))
        if question[1] in _own(cloud, router):
            return who, question
        way = leads(cloud, router, question[1])
        question = (_shown(cloud, router, question, asked, came, way), question[1])
        memory[router.name, question] = asked
    return "", question


def _own(cloud: Topology, router: Router) -> set[str]:
    out = way_out(cloud, router)
    return {own for _, _, own in interfaces(cloud, router)} | ({out[2]} if out else set())


def _shown(cloud: Topology, router: Router, question: Question, asked: Question, came: tuple[str, str],
           goes: tuple[str, str] | None) -> str:
    """Whom the question says it is from, once it has left the router."""
    out = way_out(cloud, router)
    if out is None or goes is None or router.gateway is None:
        return question[0]
    names = {fixed: address for address, fixed in reversed(floating(cloud, router).items())}
    if goes[0] == out[0]:
        return names.get(question[0], out[2] if router.gateway.snat else question[0])
    hairpin = asked[1] != question[1] and came[0] != out[0]
    return names.get(question[0], out[2]) if hairpin else question[0]


def _answer(cloud: Topology, who: str, question: Question, memory: Memory) -> str:
    """Follow an answer back: `port web1 to 10.0.1.11 from 10.0.2.11`, as it arrives."""
    to, sender = question
    way = _first_back(cloud, who, sender, to)
    for _ in range(FURTHEST):
        at = has(cloud, *way) if way else ""
        if not at.startswith("router "):
            return f"{at} to {to} from {sender}"
        router = cloud.routers[at.removeprefix("router ")]
        asked = memory.get((router.name, (to, sender)))
        came, out = way, way_out(cloud, router)
        if asked is not None:
            to, sender = asked
        if to in _own(cloud, router):
            return f"{at} to {to} from {sender}"
        way = leads(cloud, router, to)
        if asked is None and out and out[0] in {network for network, _ in (came, way) if came and way} :
            return ""
    return ""


def _first_back(cloud: Topology, who: str, sender: str, to: str) -> tuple[str, str] | None:
    kind, _, name = who.partition(" ")
    if kind == "router":
        return leads(cloud, cloud.routers[name], to)
    if kind == "internet":
        near = [network.name for network in cloud.networks.values() for subnet in network.subnets
                if has(cloud, network.name, str(subnet.gateway)) == "internet" and within(to, str(subnet.cidr))]
        return (near[0], to) if near else None
    port = next(port for port in cloud.ports() if port.name == name)
    card = _card(cloud, port, to)
    if card is None or (card != port and not _may_say(card, sender)):
        return None
    if card != port and Meaning(cloud).filtered(card):
        return None  # it never heard the question
    return _leaves(cloud, card, to)


def _card(cloud: Topology, port: Port, to: str) -> Port | None:
    cards = cloud.vms[port.vm].ports
    near = [card for card in cards if within(to, _subnet(cloud, card)[0])]
    return max(near, key=lambda card: int(_subnet(cloud, card)[0].split("/")[1]), default=_default(cloud, port))


def _may_say(card: Port, address: str) -> bool:
    return not card.port_security or any(
        pair.mac == card.mac and within(address, str(pair.ip)) for pair in card.allowed_address_pairs)


def _leaves(cloud: Topology, card: Port, to: str) -> tuple[str, str] | None:
    prefix, gateway = _subnet(cloud, card)
    if within(to, prefix):
        return card.network, to
    return (card.network, gateway) if gateway and _default(cloud, card) == card else None


def _default(cloud: Topology, port: Port) -> Port | None:
    """The card with the VM's default route: the first that has a gateway."""
    return next(_with_gateway(cloud, port), None)


def _with_gateway(cloud: Topology, port: Port) -> Iterator[Port]:
    for card in cloud.vms[port.vm].ports:
        if card.ip.version == 4 and _subnet(cloud, card)[1]:
            yield card


def _subnet(cloud: Topology, card: Port) -> tuple[str, str]:
    """(prefix, gateway or nothing) of a card's subnet."""
    for subnet in cloud.networks[card.network].subnets:
        if subnet.name == card.subnet:
            return str(subnet.cidr), str(subnet.gateway or "")
    raise LookupError(card.name)
