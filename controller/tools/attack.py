"""`tunbridge attack`: a hostile VM in a live lab. What it sends is written down, who saw it, and what stopped it.

Every attack is a value (`attacks`); this module carries one after the other out. Whoever may not see a frame is
watched at its own interface, so that a verdict rests on what arrived and not on what a table should do.
"""
from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from threading import Event
from typing import Final

from controller.host import forging, hostile, netns
from controller.host.hostile import Ears, Mouth, Sight
from controller.model.topology import Port, Topology
from controller.tools import battlefield, counters, limits
from controller.tools.attacks import Also, Attack, From, Meanwhile, Scene
from controller.tools.attacks_filtered import FILTERED, a_group
from controller.tools.attacks_overlay import OVERLAY, simulated_leg
from controller.tools.attacks_spoofing import SPOOFING
from controller.tools.battlefield import Field
from controller.tools.counters import Reading, Stopper
from controller.tools.errors import BAD_INPUT, MISSING, NO, Refusal
from controller.tools.rundir import Rundir
from controller.tools.verdicts import GOT_THROUGH, NOT_APPLICABLE, STOPPED, Report, Result

Progress = Callable[[int, int, str], None]
MAKERS: Final[tuple[Callable[[Scene], Attack], ...]] = (*SPOOFING, *OVERLAY, *FILTERED)

_LISTEN: Final = 0.1  # seconds after the last frame of an attack, before counters are read, which takes some more
_BEFORE: Final = 200  # frames of an attack before what happens meanwhile
_AFTER: Final = 0.3  # seconds that an attack goes on after what happened meanwhile
_LONGEST: Final = 25.0  # seconds that it goes on at all
_FEW: Final = 4  # where drops count less than one in so many frames, it is not them that keep an attack in
_HOSTS: Final = 8  # whose counters are read


@dataclass(frozen=True)
class _Shot:
    """An attack that has been carried out."""

    attack: Attack
    sent: int
    before: Reading
    after: Reading
    complaints: tuple[str, ...]  # what it did beside being seen


@dataclass(frozen=True)
class _Stage:
    """All that attacks need, made once."""

    field: Field
    scene: Scene
    ears: Ears
    mouth: Mouth
    hosts: tuple[str, ...]

    def read(self, one: Attack | None = None, older: Reading | None = None) -> Reading:
        """The counters of all hosts; or `older` with those anew that an attack has to do with."""
        everywhere = one is None or one.source is From.UNDERLAY or one.also is Also.LEARNED
        near = {self.scene.port.host, one.host or self.scene.port.host} if one is not None else set()
        hosts = [host for host in self.hosts if everywhere or host in near]
        found = counters.read(self.field.topology, self.field.where, hosts)
        return found if older is None else found.over(older, hosts)


def attack(where: Rundir, vm: str | None = None, only: Sequence[str] = (), progress: Progress | None = None) -> Report:
    """Have a VM of the running lab attack the rest, and tell what came of it. The lab is left as it was.

    `only`: names of attacks; none means all. Refusal if no lab runs, or what it shows would prove nothing.
    """
    began = time.monotonic()
    field = battlefield.field(where)
    port = chosen(field.topology, vm)
    scene = Scene(field.topology, port, secrets.randbits(32), field.vlans(port.host))
    attacks = planned(scene, only)
    try:
        with ExitStack() as stack:
            ears = stack.enter_context(hostile.ears(scene.run, forging.is_offer))
            ears.listen(field.places())
            mouth = stack.enter_context(hostile.mouth(field.place(port)))
            results = _carried_out(_Stage(field, scene, ears, mouth, _watched(scene)), attacks, progress)
    except (hostile.HostileError, netns.NamespaceError) as error:
        raise Refusal(str(error), MISSING) from error
    return Report(port.name, port.host, port.network, results, time.monotonic() - began)


def chosen(topology: Topology, vm: str | None) -> Port:
    """The attacker's port: the first of the VM, or of the VM that most can be tried from. Refusal if there is none."""
    ports = list(topology.ports())
    if vm is not None:
        found = next((port for port in ports if vm in (port.name, port.vm)), None)
        if found is None:
            raise Refusal(f"{topology.source} has no VM or port named {vm!r}; known: "
                          f"{', '.join(sorted(port.name for port in ports)) or 'none at all'}.", BAD_INPUT)
        return found
    if not ports:
        raise Refusal(f"{topology.source} has no VM, so nobody can attack.", BAD_INPUT)
    return max(ports, key=lambda port: _promise(topology, port))


def _promise(topology: Topology, port: Port) -> int:
    """How many kinds of attacks a port may try."""
    scene = Scene(topology, port, 0, {})
    filtered = any(topology.is_filtered(one) for one in (port, *scene.neighbours, *scene.beyond))
    return sum(map(bool, (scene.neighbours, scene.gateway, scene.strangers, filtered, simulated_leg(scene),
                          port.port_security, topology.dhcp_by_network.get(port.network))))


def planned(scene: Scene, only: Sequence[str] = ()) -> dict[int, Attack]:
    """The attacks by the numbers that their frames carry, in order. Refusal for a name that there is not."""
    every = {number: make(replace(scene, number=number)) for number, make in enumerate(MAKERS)}
    names = [one.name for one in every.values()]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise Refusal(f"There is no attack {unknown[0]!r}; known: {', '.join(names)}.", BAD_INPUT)
    return {number: one for number, one in every.items() if not only or one.name in only}


def _watched(scene: Scene) -> tuple[str, ...]:
    """The hosts whose counters are read: the attacker's, those it has to do with, then others."""
    near = [port.host for port in scene.neighbours]
    legs = [leg.host for leg in scene.topology.legs_by_network.get(scene.port.network, ())]
    return tuple(dict.fromkeys((scene.port.host, *near, *legs, *scene.topology.hosts)))[:_HOSTS]


# ---- one after the other

def _carried_out(stage: _Stage, attacks: Mapping[int, Attack], progress: Progress | None) -> tuple[Result, ...]:
    _prove_that_it_speaks(stage)
    shots: dict[int, _Shot] = {}
    sights: list[Sight] = []
    tell = progress or (lambda done, total, what: None)
    reading = stage.read()
    try:
        for done, (number, one) in enumerate(attacks.items()):
            tell(done, len(attacks), one.name)
            if one.frames:
                shots[number] = _shoot(stage, one, reading)
                reading = shots[number].after
            sights += stage.ears.heard()
    finally:
        tell(len(attacks), len(attacks), "")
        sights += stage.ears.heard()
        seen = _breaches(shots, sights)
        if any(seen.values()):
            battlefield.mend(stage.field, stage.scene.port.network)
    return tuple(_result(stage.scene, one, shots[number], seen[number]) if number in shots
                 else Result(one.name, one.what, NOT_APPLICABLE) for number, one in attacks.items())


def _prove_that_it_speaks(stage: _Stage) -> None:
    """Silence proves something only if an honest frame is heard. Refusal if it is not."""
    scene = replace(stage.scene, number=len(MAKERS))
    if not scene.neighbours:
        return
    target = scene.neighbours[0]
    if target.ip.version == 4:
        frame = forging.arp(forging.ARP_REQUEST, scene.me, scene.victim, (scene.port.mac, forging.BROADCAST),
                            scene.token())
    else:
        frame = forging.discovery(scene.me6, scene.victim, forging.SOLICITATION, None, scene.token())
    for _ in range(10):
        stage.mouth.say([frame], 1000.0, lambda sent: sent < 1)
        time.sleep(_LISTEN)
        if any(sight.place.name == target.name for sight in stage.ears.heard()):
            return
    raise Refusal(f"An honest question of {scene.port.name} does not come to {target.name}, so that silence would "
                  "prove nothing. `tunbridge lab reach` tells more.", NO)


def _shoot(stage: _Stage, one: Attack, before: Reading) -> _Shot:
    asked = limits.asked(stage.field) if one.also is Also.ASKED else 0
    began = time.monotonic()
    if one.source is From.UNDERLAY:
        with battlefield.stranger(stage.field) as place, hostile.mouth(place) as mouth:
            sent = mouth.say(one.frames, one.rate, lambda count: count < one.count)
            time.sleep(_LISTEN)  # before its wire goes
    else:
        sent = _say(stage, one)
    elapsed = time.monotonic() - began
    time.sleep(_LISTEN)
    after = stage.read(one, before)
    complaints: list[str] = []
    if one.also is Also.ASKED:
        complaints += limits.asked_too_much(stage.field, asked, elapsed)
    if one.also is Also.LEARNED:
        complaints += limits.learned_too_much(stage.field, stage.scene.port, before, after)
        battlefield.forget(stage.field, {row["host"] for row in after.learned if limits.is_forged(row)})
    return _Shot(one, sent, before, after, tuple(complaints))


def _say(stage: _Stage, one: Attack) -> int:
    if one.meanwhile is Meanwhile.NOTHING:
        return stage.mouth.say(one.frames, one.rate, lambda count: count < one.count)
    begun = Event()
    with ThreadPoolExecutor(1) as pool:
        change = pool.submit(_change, stage, one, begun)
        try:
            sent = stage.mouth.say(one.frames, one.rate, _until_over(change, begun))
        finally:
            begun.set()
        change.result()
    return sent


def _until_over(change: Future[None], begun: Event) -> Callable[[int], bool]:
    """Whether to go on: from a little before the change until a little after it, so that both ends are seen, too."""
    began, over = time.monotonic(), math.inf

    def more(sent: int) -> bool:
        nonlocal over
        now = time.monotonic()
        if sent >= _BEFORE:
            begun.set()
        if change.done():
            over = min(over, now)
        return now < min(over + _AFTER, began + _LONGEST)
    return more


def _change(stage: _Stage, one: Attack, begun: Event) -> None:
    begun.wait(_LONGEST)
    if one.meanwhile is Meanwhile.RULES:
        battlefield.change_rules(stage.field, a_group(stage.scene, one.victim))
    else:
        battlefield.restart_switch(stage.field, one.host)


# ---- verdicts

def _breaches(shots: dict[int, _Shot], sights: Sequence[Sight]) -> dict[int, Counter[str]]:
    """Attack -> place -> how many of its frames were seen there and should not have been."""
    found: dict[int, Counter[str]] = {number: Counter() for number in shots}
    answered = next((number for number, shot in shots.items() if shot.attack.answers), None)
    for sight in sights:
        number = sight.token.attack if sight.token is not None else answered
        shot = shots.get(number) if number is not None else None
        if number is not None and shot is not None and shot.attack.is_breach(sight.place, sight.frame):
            found[number][sight.place.name] += 1
    return found


def _result(scene: Scene, one: Attack, shot: _Shot, seen: Counter[str]) -> Result:
    verdict = GOT_THROUGH if seen or shot.complaints else STOPPED
    stoppers = _told(scene, one, shot)
    return Result(one.name, one.what, verdict, shot.sent, tuple(sorted(seen.items())), shot.complaints,
                  tuple(stoppers))


def _told(scene: Scene, one: Attack, shot: _Shot) -> list[Stopper]:
    """What stopped it, best first: drops of its own port, then of its victim and of nobody's; else what keeps apart."""
    victim = next((port.path for port in scene.topology.ports() if port.name == one.victim), "")
    others = {port.path for port in scene.topology.ports()} - {scene.port.path, victim}
    risen = [row for row in shot.after.risen(shot.before) if row.origin not in others]
    drops = [row for row in risen if row.drops]
    drops.sort(key=lambda row: (row.origin != scene.port.path, row.origin != victim, -row.counter))
    if victim or one.source is From.UNDERLAY or sum(row.counter for row in drops) * _FEW >= shot.sent:
        return drops
    own = f"networks.{scene.port.network}"
    return sorted((row for row in risen if not row.drops and row.host == scene.port.host and row.origin == own),
                  key=lambda row: -row.counter)
