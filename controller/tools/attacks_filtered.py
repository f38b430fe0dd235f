"""Attacks on security groups: what they forbid, at rest, while they change, while the switch starts anew. No I/O."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from controller.host import forging
from controller.host.hostile import Place
from controller.model.protocols import TCP, UDP, Datagram, echo
from controller.model.topology import Port
from controller.tools.attacks import Attack, Meanwhile, Scene

_TRIED: Final = ((TCP, 22), (TCP, 6667), (UDP, 53), (UDP, 6667), (TCP, 80), (TCP, 443))
_RATE: Final = 2000.0  # frames a second, while something else goes on
_ALWAYS: Final = 1 << 30  # frames: as long as it goes on
_HALVES: Final = 20  # datagrams in fragments; half of them whole
_SOURCE: Final = 6667  # port


def at_rest(scene: Scene) -> Attack:
    """What the groups forbid, to a neighbour that has groups or from a VM that has egress rules."""
    found = _forbidden(scene)
    if found is None:
        return Attack("forbidden-traffic", _why_not(scene))
    victim, refused, words = found
    frames = tuple(_frame(scene, victim, number, one) for number, one in enumerate(refused))

    def is_breach(place: Place, _: bytes) -> bool:
        return place.name == victim.name
    return Attack("forbidden-traffic", f"{words} to {victim.name}, which the groups forbid", frames,
                  count=max(40, len(frames)), is_breach=is_breach, victim=victim.name, host=victim.host)


def fragments(scene: Scene) -> Attack:
    """What the groups forbid in halves, of which the second names no port; and second halves alone."""
    name, found = "fragments", _forbidden(scene)
    if found is None:
        return Attack(name, _why_not(scene))
    victim, refused, _ = found
    ports = [one.port for one in refused if one.protocol == UDP and one.port is not None]
    if not ports or scene.port.ip.version != 4:
        return Attack(name, f"the groups of {victim.name} forbid no UDP over IPv4")
    halves = [forging.fragments(scene.me, scene.way_to(victim), (_SOURCE, ports[0]), scene.token(number))
              for number in range(_HALVES)]
    frames = [half for pair in halves[:_HALVES // 2] for half in pair]
    frames += [second for _, second in halves[_HALVES // 2:]]
    return Attack(name, f"UDP {ports[0]} to {victim.name} in fragments, and fragments without a beginning",
                  tuple(frames), count=len(frames), victim=victim.name, host=victim.host)


def rule_change(scene: Scene) -> Attack:
    """The same while a rule is added to one of the groups and taken away again."""
    return _during(scene, "rule-change", Meanwhile.RULES)


def restart(scene: Scene) -> Attack:
    """The same while the switch of the host that filters is killed and started again."""
    return _during(scene, "switch-restart", Meanwhile.RESTART)


def _during(scene: Scene, name: str, meanwhile: Meanwhile) -> Attack:
    plain = at_rest(scene)
    if not plain.frames:
        return replace(plain, name=name)
    return replace(plain, name=name, what=f"the same while {meanwhile.value}", count=_ALWAYS, rate=_RATE,
                   meanwhile=meanwhile)


def _forbidden(scene: Scene) -> tuple[Port, list[Datagram], str] | None:
    """A neighbour, and what may not come to it from the attacker; those that filter themselves first."""
    filters = scene.topology.filters
    for victim in sorted(_victims(scene), key=lambda port: not scene.topology.is_filtered(port)):
        every = list(_tried(scene, victim))
        hidden = [one for one in every if filters.leaves(scene.port, one).passes]
        refused = [one for one in hidden if not filters.enters(victim, one).passes]
        refused = refused or [one for one in every if not filters.leaves(scene.port, one).passes]
        if refused:
            return victim, refused, ", ".join(map(_words, refused))
    return None


def _victims(scene: Scene) -> tuple[Port, ...]:
    return *scene.neighbours, *scene.beyond


def _tried(scene: Scene, victim: Port) -> Iterator[Datagram]:
    yield echo(scene.port.ip, victim.ip)
    for protocol, port in _TRIED:
        yield Datagram(scene.port.ip.version, protocol, scene.port.ip, victim.ip, port, source_port=_SOURCE)


def _frame(scene: Scene, victim: Port, number: int, datagram: Datagram) -> bytes:
    to, token = scene.way_to(victim), scene.token(number)
    if datagram.port is None:
        return forging.echo(scene.me, to, token)
    if datagram.protocol == TCP:
        return forging.tcp_syn(scene.me, to, (_SOURCE, datagram.port), token)
    return forging.udp(scene.me, to, (_SOURCE, datagram.port), token.bytes)


def _words(datagram: Datagram) -> str:
    if datagram.port is None:
        return "ping"
    return f"{'TCP' if datagram.protocol == TCP else 'UDP'} {datagram.port}"


def _why_not(scene: Scene) -> str:
    if scene.topology.firewall == "none":
        return "firewall: none, so that security groups filter nothing"
    if not any(map(scene.topology.is_filtered, (scene.port, *_victims(scene)))):
        return f"neither {scene.port.name} nor anybody it can reach lists a security group"
    return "the groups let all through that would be tried"


def a_group(scene: Scene, victim: str) -> str:
    """A group that filters the traffic from the attacker to the victim."""
    ports = {port.name: port for port in scene.topology.ports()}
    groups = (*(ports[victim].security_groups if victim in ports else ()), *scene.port.security_groups)
    return groups[0]


FILTERED: Final[tuple[Callable[[Scene], Attack], ...]] = (at_rest, fragments, rule_change, restart)
