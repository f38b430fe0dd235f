"""The map of a journey's page: the hosts that it concerns with their devices, and where each hop is on it.

Drawn twice, for wide and for narrow screens. Only what the packets pass has a box of its own; whoever else lives on a
host is named below it.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

from controller.model.topology import Topology
from controller.tools.page_guests import Guest, Guests
from flows.tables import BR_INT, BR_TUN

Json = dict[str, Any]
Point = tuple[float, float]
_PER_ROW: Final = 3  # hosts beside each other
_MOST: Final = 24  # hosts that are drawn
_PAD, _GAP = 14, 18
_GUEST_WIDTH, _GUEST_GAP, _GUEST_MOST = 104, 10, 6
_NARROW: Final = 312  # width of a host
_TITLE, _GUEST_TOP, _GUEST_HEIGHT = 20, 32, 38
_INT_TOP, _TUN_TOP, _BRIDGE, _PATCH, _TUNNEL, _MORE, _HEIGHT = 152, 222, 40, 207, 276, 298, 308
_ROOM: Final = _INT_TOP - _GUEST_TOP - _GUEST_HEIGHT  # for what stands between a guest and br-int
_CHAIN: Final = ("tap", "qbr", "qvb", "port")
_BAR: Final = 16
_BAR_ROOM: Final = 34
_WORLD: Final = (116, 34)
_ALIKE: Final = ("host", "device", "leg", "kind")
_TOKEN: Final = '<path class="trail"/><g class="token"><circle r="9"/><circle class="core" r="4"/></g>'
_DEVICE, _KIND = 15, 3  # letters of a device's name, and those of them that say what it is
_LETTER: Final = 6.0  # width of a small one


@dataclass(frozen=True)
class Drawn:
    """A map: its SVG, and for each hop where it is and at what (None: nowhere on this map)."""

    svg: str
    points: list[tuple[float, float, str] | None]


@dataclass
class _Host:
    """A host's box. Coordinates are of its upper left corner."""

    name: str
    guests: list[Guest]
    rest: str  # who else lives there
    provider: str  # its bridge to the outside, if the journey comes there
    x: float
    y: float
    width: float
    places: dict[str, Point] = field(default_factory=dict)  # of stations: guests, dots, bridges (the middle)

    def guest(self, place: int) -> tuple[float, float]:
        """Left edge and width of a guest."""
        count = max(1, len(self.guests))
        width = min(_GUEST_WIDTH, (self.width - 2 * _PAD - (count - 1) * _GUEST_GAP) / count)
        all_of_them = count * width + (count - 1) * _GUEST_GAP
        return self.x + (self.width - all_of_them) / 2 + place * (width + _GUEST_GAP), width

    @property
    def roomy(self) -> bool:
        """Whether the names of devices have room beside each other."""
        return self.guest(0)[1] > _GUEST_WIDTH - 2 * _GUEST_GAP

    def bridge(self, name: str) -> tuple[float, float, float]:
        """Left edge, top and width."""
        inner = self.width - 2 * _PAD
        if name == BR_INT:
            return self.x + _PAD, self.y + _INT_TOP, inner
        if not self.provider:
            return self.x + _PAD, self.y + _TUN_TOP, inner
        outside = inner * 0.36
        if name == BR_TUN:
            return self.x + _PAD, self.y + _TUN_TOP, inner - outside - 8
        return self.x + _PAD + inner - outside, self.y + _TUN_TOP, outside

    def middle(self, name: str) -> Point:
        """Of a bridge."""
        left, top, width = self.bridge(name)
        return left + width / 2, top + _BRIDGE / 2


class Map:
    """Of one journey, for a wide or a narrow page."""

    def __init__(self, topology: Topology, document: Json, *, narrow: bool) -> None:
        self._topology, self._hops, self._narrow = topology, document["hops"], narrow
        self._guests = Guests(topology, self._hops)
        self._left = _BAR + 2 * _GAP if narrow else _GAP
        names = [name for name in dict.fromkeys(hop["host"] for hop in self._hops) if name in topology.hosts]
        few = [*names, *(name for name in topology.hosts if name not in names)][:max(_PER_ROW, len(names))]
        self._hosts: dict[str, _Host] = {}
        self._width, self._height = self._lay_out(few[:_MOST])
        self._left_out = len(topology.hosts) - len(self._hosts)

    # ---- places

    def _lay_out(self, names: list[str]) -> tuple[float, float]:
        x, y, right = float(self._left), float(_GAP), 0.0
        for count, name in enumerate(names):
            if count and (self._narrow or count % _PER_ROW == 0):
                before = list(self._hosts.values())[-1]
                x, y = float(self._left), y + _HEIGHT + _GAP + self._below(before)
            guests = self._guests.on(name)
            width = float(_NARROW) if self._narrow else max(
                226.0, 2 * _PAD + len(guests[:_GUEST_MOST]) * (_GUEST_WIDTH + _GUEST_GAP))
            host = self._hosts[name] = _Host(name, guests[:_GUEST_MOST], self._guests.others(name),
                                             self._guests.provider(name), x, y, width)
            self._stations(host)
            x += width + _GAP
            right = max(right, x)
        last = list(self._hosts.values())[-1:]
        return right, y + _HEIGHT + _GAP / 2 + (self._below(last[0]) if last else 0)

    def _below(self, host: _Host) -> float:
        """What stands below a row of hosts."""
        row = [host] if self._narrow else [one for one in self._hosts.values() if one.y == host.y]
        world = _WORLD[1] + _GAP if any(one.provider for one in row) else 0
        return world + (0 if self._narrow else _BAR_ROOM)

    def _stations(self, host: _Host) -> None:
        for place, guest in enumerate(host.guests):
            left, width = host.guest(place)
            middle = left + width / 2
            top, step = host.y + _GUEST_TOP + _GUEST_HEIGHT, _ROOM / (len(guest.wires) + 1)
            host.places[guest.key] = middle, top
            host.places |= {f"{kind}:{guest.key}": (middle, top + step * number)
                            for number, kind in enumerate(guest.wires, 1)}
        host.places |= {name: host.middle(name) for name in (BR_INT, BR_TUN)}
        host.places["patch"] = host.middle(BR_TUN)[0], host.y + _PATCH
        host.places["tunnel"] = (host.x, host.middle(BR_TUN)[1]) if self._narrow else (
            host.middle(BR_TUN)[0], host.y + _TUNNEL)
        if host.provider:
            x, y = host.middle(host.provider)
            world = host.y + _HEIGHT + _GAP + (0 if self._narrow else _BAR_ROOM)
            host.places |= {host.provider: (x, y), "outside": (x, host.y + _PATCH), "internet": (x, world),
                            "provider": (x, host.y + _TUNNEL)}

    def points(self) -> list[tuple[float, float, str] | None]:
        """Of each hop."""
        return [self._point(number) for number in range(len(self._hops))]

    def _point(self, number: int) -> tuple[float, float, str] | None:
        hop = self._hops[number]
        kind, host = hop["kind"], self._hosts.get(hop["host"])
        if kind == "internet":
            home = next((one for one in self._hosts.values() if one.provider), None)
            return (*home.places["internet"], "internet") if home else None
        if host is None:
            return None
        if kind == "underlay":
            return self._between(number, host)
        station = self._guests.station(number)
        place = host.places.get(station)
        if place is None:
            return (*host.middle(BR_INT), f"{host.name}/{BR_INT}")
        if kind == "table" and station == hop["device"]:
            place = self._at_table(number, host)
        return (*place, f"{host.name}/{station}")

    def _at_table(self, number: int, host: _Host) -> Point:
        """A bridge's tables stand from left to right, in the order in which they are entered."""
        hop = self._hops[number]
        run = [number]
        for step in (-1, 1):
            at = number + step
            while 0 <= at < len(self._hops) and all(self._hops[at][key] == hop[key] for key in _ALIKE):
                run.append(at)
                at += step
        left, top, width = host.bridge(hop["device"])
        share = (sorted(run).index(number) + 0.5) / len(run)
        return left + 10 + share * (width - 20), top + _BRIDGE - 12

    def _between(self, number: int, host: _Host) -> tuple[float, float, str]:
        """On the underlay, half way to the next host."""
        onward = self._hops[number + 1]["host"] if number + 1 < len(self._hops) else host.name
        other = self._hosts.get(onward, host)
        if self._narrow:
            return _GAP + _BAR / 2, (host.places["tunnel"][1] + other.places["tunnel"][1]) / 2, "underlay"
        other = other if other.y == host.y else host
        return (host.places["tunnel"][0] + other.places["tunnel"][0]) / 2, self._bar(host.y), "underlay"

    @staticmethod
    def _bar(y: float) -> float:
        """The middle of the underlay below a row of hosts."""
        return y + _HEIGHT + _BAR_ROOM / 2

    # ---- drawing

    def drawn(self) -> Drawn:
        """All of it."""
        kind = "narrow" if self._narrow else "wide"
        body = "".join([*self._underlay(), *(line for host in self._hosts.values() for line in self._host(host))])
        more = f" There are {self._left_out} hosts more." if self._left_out else ""
        title = f"Map of the cloud {self._topology.cloud}: hosts, their bridges, and the network between them.{more}"
        return Drawn(f'<svg class="map {kind}" viewBox="0 0 {self._width:.0f} {self._height:.0f}" role="img" '
                     f'aria-label="{escape(title)}" style="--natural:{self._width:.0f}px">'
                     f'{body}{_TOKEN}</svg>', self.points())

    def _underlay(self) -> Iterator[str]:
        words = f"underlay {self._topology.underlay.cidr}, {self._topology.tunnel.type}"
        hosts = list(self._hosts.values())
        if self._narrow and hosts:
            ends = hosts[0].places["tunnel"][1] - 30, hosts[-1].places["tunnel"][1] + 30
            yield (f'<rect class="underlay" data-key="underlay" x="{_GAP}" y="{ends[0]:.0f}" width="{_BAR}" '
                   f'height="{ends[1] - ends[0]:.0f}" rx="8"/>')
            yield (f'<text class="small middle" transform="translate({_GAP - 4} {sum(ends) / 2:.0f}) rotate(-90)">'
                   f'{escape(words)}</text>')
            return
        for y in dict.fromkeys(host.y for host in hosts):
            row = [host for host in hosts if host.y == y]
            left, right = row[0].x, row[-1].x + row[-1].width
            yield (f'<rect class="underlay" data-key="underlay" x="{left:.0f}" y="{self._bar(y) - _BAR / 2:.0f}" '
                   f'width="{right - left:.0f}" height="{_BAR}" rx="8"/>')
            yield (f'<text class="small" x="{left + 10:.0f}" y="{self._bar(y) + 4:.0f}">{escape(words)}</text>')

    def _host(self, host: _Host) -> Iterator[str]:
        yield (f'<g><rect class="host" x="{host.x:.0f}" y="{host.y:.0f}" width="{host.width:.0f}" height="{_HEIGHT}" '
               f'rx="10"/>'
               f'<text class="title" x="{host.x + _PAD:.0f}" y="{host.y + _TITLE:.0f}">{escape(host.name)}</text>'
               f'<text class="small end" x="{host.x + host.width - _PAD:.0f}" y="{host.y + _TITLE:.0f}">'
               f'{escape(str(self._topology.hosts[host.name].tunnel_ip))}</text>')
        yield from self._wires(host)
        for place, guest in enumerate(host.guests):
            yield from self._guest(host, place, guest)
        for name in (BR_INT, BR_TUN, *((host.provider,) if host.provider else ())):
            left, top, width = host.bridge(name)
            yield (f'<g class="station bridge" data-key="{escape(host.name)}/{escape(name)}">'
                   f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_BRIDGE}" rx="6"/>'
                   f'<text x="{left + 8:.0f}" y="{top + 15:.0f}">{escape(name)}</text>'
                   f'<text class="small end at" x="{left + width - 8:.0f}" y="{top + 14:.0f}"></text></g>')
        yield from self._dots(host)
        room = int((host.width - 2 * _PAD) / _LETTER)
        rest = host.rest if len(host.rest) <= room else f"{host.rest[:room - 1]}…"
        yield f'<text class="small" x="{host.x + _PAD:.0f}" y="{host.y + _MORE:.0f}">{escape(rest)}</text></g>'

    def _guest(self, host: _Host, place: int, guest: Guest) -> Iterator[str]:
        left, width = host.guest(place)
        middle, top = left + width / 2, host.y + _GUEST_TOP
        label, words = escape(_cut(guest.label, width)), escape(_cut(guest.words, width))
        yield (f'<g class="station guest {guest.kind}" data-key="{escape(host.name)}/{escape(guest.key)}">'
               f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_GUEST_HEIGHT}" rx="6"/>'
               f'<text class="middle" x="{middle:.0f}" y="{top + 16:.0f}">{label}</text>'
               f'<text class="small middle" x="{middle:.0f}" y="{top + 30:.0f}">{words}</text>'
               "</g>")

    def _wires(self, host: _Host) -> Iterator[str]:
        ends = [(host.places[guest.key], (host.places[guest.key][0], host.y + _INT_TOP)) for guest in host.guests]
        ends.append((host.middle(BR_INT), host.middle(BR_TUN)))
        far = (_GAP + _BAR / 2, host.places["tunnel"][1]) if self._narrow else (
            host.places["tunnel"][0], self._bar(host.y))
        ends.append((host.middle(BR_TUN), far))
        if host.provider:
            ends.append(((host.places["outside"][0], host.y + _INT_TOP), host.places["internet"]))
        for (x, y), (end, bottom) in ends:
            bend = f"L{x:.0f} {bottom:.0f}" if x != end and not self._narrow else ""
            yield f'<path class="wire" d="M{x:.0f} {y:.0f}{bend}L{end:.0f} {bottom:.0f}"/>'

    def _dots(self, host: _Host) -> Iterator[str]:
        words = {"patch": "patch", "tunnel": self._topology.tunnel.type, "outside": "patch",
                 "provider": "uplink"}
        for key, (x, y) in host.places.items():
            kind = key.partition(":")[0]
            if kind in (*_CHAIN, *words):
                label = words.get(kind) or self._guests.device_of(host.name, key)[:_DEVICE if host.roomy else _KIND]
                beside = (x + 10, y + 4) if kind != "tunnel" or not self._narrow else (x + 8, y - 26)
                yield (f'<g class="station dot" data-key="{escape(host.name)}/{escape(key)}"><circle cx="{x:.0f}" '
                       f'cy="{y:.0f}" r="5"/><text class="small" x="{beside[0]:.0f}" y="{beside[1]:.0f}">'
                       f'{escape(label)}</text></g>')
        if host.provider:
            x, y = host.places["internet"]
            yield (f'<g class="station guest world" data-key="internet"><rect x="{x - _WORLD[0] / 2:.0f}" '
                   f'y="{y:.0f}" width="{_WORLD[0]}" height="{_WORLD[1]}" rx="17"/>'
                   f'<text class="middle" x="{x:.0f}" y="{y + 22:.0f}">internet</text></g>')


def _cut(text: str, width: float) -> str:
    room = int(width / (_LETTER + 0.8))
    return text if len(text) <= room else f"{text[:room - 1]}…"
