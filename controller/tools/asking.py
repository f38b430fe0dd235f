"""The question for a MAC and its answer: what comes before the first packet, and teaches the tunnels their way."""
from __future__ import annotations

from dataclasses import dataclass, replace

from controller.model.topology import Address, Port, RouterPort
from controller.tools.apart import apart, legs_on
from controller.tools.arrivals import is_answer, mac_for, mac_of, question
from controller.tools.journey import ANSWER, ANSWERED, DROPPED, QUESTION, ROUTER, TABLE, Leg
from controller.tools.stops import Ending, Visit
from controller.tools.telling import answerer, learned, listed, why
from controller.tools.tracing import Shot, Tracing, parted
from flows import packet as packets


@dataclass(frozen=True)
class Asked:
    """What a VM learned by asking: a MAC, or why none."""

    legs: tuple[Leg, ...]
    mac: str | None
    reason: str = ""


def ask(trace: Tracing, address: Address) -> Asked:
    """Who has the address (the target's, or its gateway's)?"""
    source, target = trace.source, trace.target
    shot = trace.send(source, question(source, address))
    answered = next((one for one in shot.endings if is_answer(one, source, address)), None)
    shown = answered or trace.telling(shot)
    words = Leg(f"{source.name} asks who has {address}", aside=_others(shot, shown), part=QUESTION)
    leg = trace.leg(shot, shown, words)
    if answered is None or answered.port is None:
        return Asked((replace(leg, outcome=DROPPED),), None, _nobody(trace, address, shown))
    by_other = answered.port == source  # a switch or a router answered, and not a VM
    legs = _parted(leg, answered, address) if by_other else (leg,)
    if address == target.address and target.port and target.port.network != source.network:
        owner = answerer(answered) if by_other else answered.port.name
        twin = f"in {source.network}, {address} is {owner}, not {target.name}"
        return Asked(legs[:1], None, f"{twin}{apart(trace)}")
    if by_other:
        return Asked(legs, mac_of(answered.packet))
    return _answer(trace, answered.port, address, leg)


def _others(shot: Shot, shown: Ending) -> str:
    heard = sorted({one.port.name for one in shot.endings if one.port and one is not shown})
    words = [f"The same question came to {listed(heard)}."] if heard else []
    home = shot.sent.sender.host if shot.sent.sender else ""
    hosts = dict.fromkeys(stop.host for one in shot.endings for stop in one.stop.way if stop.host != home)
    words += [f"It was flooded to {len(hosts)} hosts: {listed(hosts)}."] if len(hosts) > 1 else []
    return " ".join(words)


def _parted(leg: Leg, answered: Ending, address: Address) -> tuple[Leg, Leg]:
    """The question up to where it was answered, and the answer."""
    who, mac = answerer(answered), mac_of(answered.packet)
    first = next((n for n, hop in enumerate(leg.hops) if hop.packet == str(answered.packet)), len(leg.hops))
    by_table = first < len(leg.hops) and leg.hops[first].kind == TABLE and leg.hops[first - 1].kind != ROUTER
    way, back = parted(leg.hops, first + 1 if by_table else first)
    told = Leg(f"{who} answers: {address} is at {mac}", back, learned(answered, mac), ANSWER, sender=who,
               receiver=leg.sender, reached=(leg.sender,))
    there = tuple(name for name in leg.reached if name != leg.sender)
    return replace(leg, hops=way, receiver=who, outcome=ANSWERED, reached=there), told


def _answer(trace: Tracing, owner: Port, address: Address, leg: Leg) -> Asked:
    """The owner's answer goes back, and teaches the tunnels on its way."""
    source, mac = trace.source, mac_for(owner, address)
    make = packets.arp_reply if address.version == 4 else packets.neighbour_advertisement
    shot = trace.send(owner, make(mac, address, source.mac, source.ip))
    back = next((one for one in shot.endings if one.port == source), None)
    if back is None:
        lost = shot.endings[0]
        told = trace.leg(shot, lost, Leg(f"{owner.name} answers", part=ANSWER))
        return Asked((leg, told), None, f"the answer of {owner.name} is lost: {why(lost)}")
    words = Leg(f"{owner.name} answers: {address} is at {mac}", aside=learned(back, mac), part=ANSWER)
    return Asked((leg, trace.leg(shot, back, words)), mac)


def _nobody(trace: Tracing, address: Address, shown: Ending) -> str:
    source, target = trace.source, trace.target
    stop = shown.stop
    if isinstance(stop, Visit) and stop.before is None and not stop.walk.outputs:  # it did not leave br-int
        return f"{why(shown)}{apart(trace)}"
    if address != target.address:
        return f"nobody in {source.network} is the gateway {address}{_no_gateway(trace)}"
    if target.port and target.port.network == source.network:
        return f"{target.name} did not hear the question: {why(shown)}"
    return f"nobody in {source.network} has {address}{apart(trace)}"


def _no_gateway(trace: Tracing) -> str:
    legs: list[RouterPort] = legs_on(trace.topology, trace.source.subnet)
    if legs:
        return f"; {legs[0].name} is {legs[0].ip}"
    return apart(trace) or ": no router stands there"
