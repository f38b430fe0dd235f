"""What the actions of dumped flows do to a packet."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from controller.tools import ofwords
from controller.tools.dumptrace_fields import TAGGED, Part, part, writable
from controller.tools.dumptrace_learn import learned
from controller.tools.dumptrace_rows import deed
from controller.tools.dumptrace_walk import CONTROLLER, End, Hop, Visit, Walk
from flows.fields import CT_FLAGS

_WRITE: Final = re.compile(r"(?:load|set_field):(.+)->(.+)")
_MOVE: Final = re.compile(r"move:(.+)->(.+)")
_CLONE: Final = re.compile(r"clone\((.*)\)")
_LARGER: Final = re.compile(r"check_pkt_larger\((\d+)\)->(.+)")
_OUTPUT: Final = re.compile(r"output:([A-Za-z]\w*\[.*\])")
_GROUP: Final = re.compile(r"group:(\d+)")
_NAT: Final = re.compile(r"nat\((src|dst)=([\d.]+|\[?[0-9a-fA-F:]+\]?)(-[^:)]+)?(?::(\d+)(-\d+)?)?")
_RESUBMIT: Final = re.compile(r"resubmit\((.*),(\d*)\)")
_TRACKED: Final = ("ct_state", "ct_zone", "ct_mark", "ct_label")
_NOTHING: Final = ("drop", "queue", "note", "fin_timeout")  # that do nothing to its way


def act(walk: Walk, visit: Visit, hop: Hop, words: Iterable[str]) -> None:
    """One after the other, until nobody knows."""
    for word in words:
        if visit.lost:
            return
        try:
            _one(walk, visit, hop, word)
        except (KeyError, ValueError):
            walk.lose(visit, hop, f"nobody knows what {word} does")


def _one(walk: Walk, visit: Visit, hop: Hop, word: str) -> None:
    if found := _WRITE.fullmatch(word):
        _written(visit, hop, found[1], found[2])
    elif found := _MOVE.fullmatch(word):
        _put(visit, hop, part(found[2]), part(found[1]).of(visit.packet))
    elif found := _CLONE.fullmatch(word):
        act(walk, visit.copy(), hop, list(ofwords.split(found[1], " ")))
    elif found := _LARGER.fullmatch(word):
        _put(visit, hop, part(found[2]), 0)
        hop.notes.append(f"taken to be no larger than {found[1]} bytes")
    elif found := _OUTPUT.fullmatch(word):
        _out(walk, visit, hop, part(found[1]).of(visit.packet))
    elif found := _GROUP.fullmatch(word):
        walk.unknown(visit, hop, f"what group {found[1]} does is not in a dump of flows")
    elif word.startswith("learn("):
        hop.learned.append(learned(word, visit.packet))
    elif word.startswith("ct("):
        _track(walk, visit, hop, word)
    else:
        _plain(walk, visit, hop, deed(word))


# ---- what all switches spell alike

def _plain(walk: Walk, visit: Visit, hop: Hop, word: str | None) -> None:
    if word is None:
        raise ValueError
    if word.startswith("->"):
        walk.table(visit, int(word[2:]))
    elif found := _RESUBMIT.fullmatch(word):
        port = walk.site.numbers.number(visit.board.name, found[1]) if found[1] else None
        walk.table(visit, int(found[2] or visit.table), port)
    elif word in _ALONE:
        _ALONE[word](walk, visit, hop)
    else:
        name, _, value = word.partition("=")
        _named(walk, visit, hop, (name.partition(":")[0], value))


def _named(walk: Walk, visit: Visit, hop: Hop, word: tuple[str, str]) -> None:
    name, value = word
    if name == "out":
        if value in ("ALL", "FLOOD", "TABLE"):
            raise ValueError(value)
        _out(walk, visit, hop, walk.site.numbers.number(visit.board.name, value))
    elif name == "meter":
        hop.notes.append("a meter may drop it if there are too many: taken not to")
    elif name == "vlan":
        _put(visit, hop, part("vlan_vid"), int(value) | TAGGED)
    elif name == "tun":
        _put(visit, hop, part("tun_id"), int(value))
    elif name not in _NOTHING:
        field = part(name)
        _put(visit, hop, field, field.number(value))


def _out(walk: Walk, visit: Visit, hop: Hop, port: int) -> None:
    if port == visit.packet["in_port"]:
        hop.notes.append("a switch does not send it back by the port that it came by")
    else:
        walk.leave(visit, hop, port)


def _untag(walk: Walk, visit: Visit, hop: Hop) -> None:
    _put(visit, hop, part("vlan_tci"), visit.tags.pop() if visit.tags else 0)


def _push(walk: Walk, visit: Visit, hop: Hop) -> None:
    if visit.packet.get("vlan_tci", 0):
        visit.tags.append(visit.packet["vlan_tci"])
    _put(visit, hop, part("vlan_tci"), TAGGED)


def _older(walk: Walk, visit: Visit, hop: Hop) -> None:
    left = visit.packet.get("nw_ttl", 0)
    if writable("nw_ttl", visit.packet) and left <= 1:
        hop.notes.append("its TTL is over: dropped")
        visit.lost = True
    else:
        _put(visit, hop, part("nw_ttl"), left - 1)


def _asked(walk: Walk, visit: Visit, hop: Hop) -> None:
    hop.outputs.append("the controller")
    told = visit.board.reader.one(hop.found.entry.line).sentence if hop.found.entry else ""
    why = "to be logged" if told.startswith("Logging:") else ""
    walk.ends.append(End(CONTROLLER, visit.board.name, 0, dict(visit.packet), why, visit.sure))


def _forget(walk: Walk, visit: Visit, hop: Hop) -> None:
    for name in _TRACKED:
        visit.packet.pop(name, None)


_ALONE: Final[dict[str, Callable[[Walk, Visit, Hop], None]]] = {
    "normal": lambda walk, visit, hop: walk.switch(visit, hop),
    "back": lambda walk, visit, hop: walk.leave(visit, hop, visit.packet["in_port"]),
    "controller": _asked, "untag": _untag, "push": _push, "ct_clear": _forget, "dec_ttl": _older}


# ---- writing

def _put(visit: Visit, hop: Hop, field: Part, value: int) -> None:
    if writable(field.key, visit.packet):
        for packet in (visit.packet, hop.after):
            field.put(packet, value)


def _written(visit: Visit, hop: Hop, text: str, target: str) -> None:
    field = part(target)
    value, _, mask = text.partition("/")
    if not writable(field.key, visit.packet):
        return
    number = field.number(value)
    if field.key == "vlan_tci" and field.width == 13:
        number |= TAGGED
    for packet in (visit.packet, hop.after):
        field.put(packet, number, field.number(mask) if mask else None)


# ---- connection tracking

def _track(walk: Walk, visit: Visit, hop: Hop, word: str) -> None:
    """A copy comes back with the state of its connection; the packet itself goes on without."""
    words = list(ofwords.split(word[3:-1]))
    about = dict(one.split("=", 1) for one in words if re.match(r"(table|zone)=", one))
    zone = _zone(visit, about.get("zone", "0"))
    if "commit" in words:
        hop.notes.append(f"its connection is remembered in zone {zone}")
    if "table" in about:
        copy = visit.copy()
        for name in ("ct_mark", "ct_label"):
            copy.packet[name] = walk.state.get(name, 0)
        copy.packet.update(ct_state=walk.state["ct_state"], ct_zone=zone)
        hop.notes.append(f"connection tracking of zone {zone} is taken to say: {_flags(copy.packet['ct_state'])}")
        _translate(copy, hop, word)
        walk.wait(copy, int(about["table"]))
    _forget(walk, visit, hop)


def _zone(visit: Visit, text: str) -> int:
    return int(text, 0) if text[:1].isdigit() else part(text).of(visit.packet) & 0xFFFF


def _flags(value: int) -> str:
    return "+".join(name for name, bit in CT_FLAGS.items() if value & bit and name != "trk")


def _translate(copy: Visit, hop: Hop, word: str) -> None:
    found = _NAT.search(word)
    if not found:
        if re.search(r"\bnat\b", word) and not copy.packet["ct_state"] & CT_FLAGS["new"]:
            hop.notes.append("if its connection is a translated one, its addresses change as they did before: "
                             "flows do not tell")
        return
    if found[3] or found[5]:
        raise ValueError(word)  # any of a range
    field = part(f"{'ipv6' if ':' in found[2] else 'nw'}_{found[1]}")
    writes = [(field, field.number(found[2].strip("[]")))]
    writes += [(part(f"tp_{found[1]}"), int(found[4]))] if found[4] else []
    for target, value in writes:
        if writable(target.key, copy.packet):
            target.put(copy.packet, value)
            target.put(hop.after, value)
