"""What the ends of frames say to a person: why one was dropped, who answered, which numbers it wore on its way."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from controller.model.topology import Port, Topology
from controller.tools.simulate import Cloud
from controller.tools.stops import Crossing, Ending, Gate, Stop, Visit
from flows import fields as f
from flows.evaluate import Step
from flows.tables import ARP_RESPONDER, BR_TUN, ROUTER, TRANSLATE_IN

_NAMED = 8  # names in a row
_ROUTERS = "routers."  # how origins of routers' flows begin


def listed(names: Collection[str]) -> str:
    """Names in a row, but not thousands of them."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(list(names)[:_NAMED])}{more}"


def why(ending: Ending) -> str:
    """The last reason, with its place."""
    stop = ending.stop
    if ending.server is not None:
        return f"{ending.server.name} on {stop.host} gets it, and has no answer"
    if isinstance(stop, Gate):
        return f"{stop.host}'s iptables drops it at {stop.device}: {stop.why}"
    if isinstance(stop, Crossing):
        return f"{stop.passage.router} on {stop.host}: {stop.passage.outcome.why}"
    step = stop.walk.last
    reason = step.flow.why if step.flow else "no flow matches"
    return f"{stop.host}'s {stop.bridge} drops it in {step.table.name}: {reason}"


def refusal(ending: Ending) -> str:
    """Why a router sent this back to the one who asked."""
    crossings = [stop for stop in ending.stop.way if isinstance(stop, Crossing)]
    return f"{crossings[-1].passage.router} on {crossings[-1].host}: {crossings[-1].passage.outcome.why}" \
        if crossings else why(ending)


def routers(ending: Ending) -> tuple[str, ...]:
    """The routers that it passed, in order."""
    return tuple(name for stop in ending.stop.way for name in _routers_of(stop))


def _routers_of(stop: Stop) -> Iterator[str]:
    if isinstance(stop, Crossing):
        if stop.is_namespace:
            yield stop.passage.router
        return
    if isinstance(stop, Gate):
        return
    for step, onward in pairwise(stop.walk.steps):
        if step.table == ROUTER and onward.table == TRANSLATE_IN and step.flow:
            yield step.flow.origin.removeprefix(_ROUTERS)


def answerer(ending: Ending) -> str:
    """Who turned a question for a MAC into its answer, which came back to the asker."""
    for stop in ending.stop.way:
        if isinstance(stop, Crossing):
            return stop.passage.router
        if isinstance(stop, Gate):
            continue
        for step in stop.walk.steps:
            if step.flow and _op(step) != (f.ARP_REPLY, f.ARP_REPLY) and _op(step)[1] == f.ARP_REPLY:
                place = f"{stop.bridge} of {stop.host}"
                return place if step.table == ARP_RESPONDER else f"{step.flow.origin.removeprefix(_ROUTERS)} ({place})"
    return "the world outside"


def _op(step: Step) -> tuple[int | None, int | None]:
    return step.before.get(f.ARP_OP), step.after.get(f.ARP_OP)


def learned(ending: Ending, mac: str) -> str:
    """What the bridges on the way learned of its sender, in sentences."""
    return "".join(f"{stop.host} learns that {mac} lives behind {stop.device}." for stop in ending.stop.way
                   if isinstance(stop, Visit) and any(row.match[f.ETH_DST] == f.ETH_DST(mac)
                                                      for row in stop.walk.learned))


def numbers(topology: Topology, cloud: Cloud, source: Port | None, ending: Ending) -> str:
    """The numbers that a frame wore on its way from a VM, or (None) from outside: what keeps networks apart."""
    words = [_vlan(cloud, source.host, source.network)] if source else []
    way: tuple[Stop | None, ...] = (*ending.stop.way, None)
    for stop, onward in pairwise(way):
        words += _routers_of(stop) if stop else ()
        if isinstance(stop, Visit) and isinstance(onward, Visit) and stop.host != onward.host:
            through = f"tunnel id {onward.packet.tunnel_id}" if stop.bridge == BR_TUN else "the physical network"
            words.append(f"{through} to {onward.host}")
    if ending.outside is not None:
        return ", ".join([*words, f"the physical network of {ending.outside}"])
    if ending.port is None:
        return ", ".join(words)
    last = _vlan(cloud, ending.port.host, ending.port.network)
    if source and not routers(ending):
        between = [word.replace(f" to {ending.port.host}", " between them") for word in words[1:]]
        return ", ".join([words[0], *between, last] if between else [words[0], "no tunnel"])
    return ", ".join([*words, last])


def _vlan(cloud: Cloud, host: str, network: str) -> str:
    return f"VLAN {cloud.seen(host).vlans[network]} on {host}"
