"""The dumped bridges of one host, and how their ports are called and hang together; and what a learning switch does."""
from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controller.tools.dumps import dumps
from controller.tools.dumptrace_fields import TAGGED, VID, Packet
from controller.tools.dumptrace_rows import Board, Numbers
from controller.tools.errors import BAD_INPUT, Refusal
from controller.tools.explain import Reader
from controller.tools.labels import Labels
from controller.tools.ours import Ours

_ENDS: Final = {"patch-tun": ("br-tun", "patch-int"), "patch-int": ("br-int", "patch-tun")}  # as Neutron names them
_EVERYBODY: Final = 0xFFFFFFFFFFFF
_GROUP: Final = 1 << 40  # the bit of a MAC that is not one machine's


@dataclass(frozen=True)
class Choice:
    """Where a learning switch sends a frame: to all of these if `sure`, or else perhaps to some of them, and why."""

    ports: tuple[tuple[int, Packet], ...]
    sure: bool
    why: str


class Site:
    """Several bridges."""

    def __init__(self, labels: Labels, ours: Ours) -> None:
        self.labels, self._ours = labels, ours
        self.numbers = Numbers(labels.devices)
        self.boards: dict[str, Board] = {}

    def read(self, text: str, bridge: str, source: str) -> None:
        """Take in a file with dumps. Refusal if it has none, or of a bridge that is there already."""
        found = dumps(text, bridge)
        if not any(line.row for dump in found for line in dump.lines):
            raise Refusal(f"{source}: there is no flow in it: give the output of `ovs-ofctl dump-flows BRIDGE`.",
                          BAD_INPUT)
        for dump in found:
            reader = Reader(dump, self.labels, self._ours)
            dump.bridge = reader.called
            board = Board(dump, reader, self.numbers, source)
            if board.name in self.boards:
                raise Refusal(f"{source}: there are two dumps of {board.name}: say whose each is: --dump BRIDGE=FILE.",
                              BAD_INPUT)
            self.boards[board.name] = board

    # ---- ports

    def place(self, text: str) -> tuple[str, int]:
        """`5`, `br-int:5`, `qvo7c4e9d0a-11`, `web1`: bridge and number of a port. Refusal if there is none."""
        bridge, found, name = text.rpartition(":")
        if found and bridge not in self.boards:
            raise Refusal(f"No dump is of bridge {bridge}: there are {', '.join(self.boards)}.", BAD_INPUT)
        among = [bridge] if found else list(self.boards)
        if name.isdigit() or name == "LOCAL":
            if len(among) > 1:
                raise Refusal(f"Say of which bridge port {name} is: {' or '.join(f'{one}:{name}' for one in among)}.",
                              BAD_INPUT)
            return among[0], self.numbers.number(among[0], name)
        names = dict(self._names(among))
        if name not in names:
            raise Refusal(f"No port is called {name!r} in {' or '.join(among)}{self._hint(name, names)}.", BAD_INPUT)
        return names[name]

    def _hint(self, name: str, names: Iterable[str]) -> str:
        near = difflib.get_close_matches(name, list(names), n=1)
        if near:
            return f" (did you mean {near[0]!r}?)"
        return "" if self.labels.devices else ": give its OpenFlow number, or `ovs-ofctl show` with --names"

    def _names(self, among: list[str]) -> Iterator[tuple[str, tuple[str, int]]]:
        for (bridge, _), device in self.labels.devices.items():
            if bridge in among:
                at = bridge, self.numbers.number(bridge, device)
                if name := self.labels.ports.get(device[3:]):
                    yield name, at
                yield device, at

    def port(self, bridge: str, number: int) -> str:
        """A port as people call it."""
        text = self.numbers.text(number)
        called = self.labels.port(bridge, text)
        tunnel = self.labels.remote(bridge, text)
        return tunnel if tunnel.startswith("the tunnel to ") else called

    def _device(self, bridge: str, number: int) -> str:
        text = self.numbers.text(number)
        return self.labels.devices.get((bridge, text), "" if text.isdigit() else text)

    def peer(self, bridge: str, number: int) -> tuple[str, int | None]:
        """The bridge behind a patch port, and the port there if that bridge was dumped; an empty name if it is none."""
        device = self._device(bridge, number)
        home, end = _ENDS.get(device, ("", ""))
        if device.startswith(("int-", "phy-")):
            far = device[4:]
            home, end = ("br-int", f"int-{far}") if device.startswith("phy-") else (far, f"phy-{far}")
        end = self.labels.peers.get(device, end)
        home = self.labels.homes.get(end) or next((one for (one, _), name in self.labels.devices.items()
                                                   if name == end), home)
        if not end or not home:
            return "", None
        return home, self.numbers.number(home, end) if home in self.boards else None

    # ---- NORMAL

    def normal(self, bridge: str, packet: Mapping[str, int], learned: dict[tuple[str, int, int], int]) -> Choice:
        """What a learning switch does that has learned only this; it learns the sender."""
        came, tci = packet["in_port"], packet.get("vlan_tci", 0)
        ports = {self.numbers.number(one, number): device for (one, number), device in self.labels.devices.items()
                 if one == bridge}
        if not ports or bridge not in self.labels.homes.values():
            return Choice((), False, f"which ports {bridge} has, and of which VLAN, is not known: give `ovs-vsctl "
                          f"show` and `ovs-ofctl show {bridge}` with --names")
        tag = self.labels.tags.get(ports.get(came, ""))
        vlan = tci & VID if tag is None else tag
        if tag is not None and tci & VID:
            return Choice((), True, f"a port of VLAN {tag} takes no tagged frame")
        if not packet.get("dl_src", 0) & _GROUP:
            learned[bridge, vlan, packet.get("dl_src", 0)] = came
        target = packet.get("dl_dst", 0)
        known = learned.get((bridge, vlan, target))
        if known is not None:
            return self._to(bridge, {known: ports.get(known, "")}, packet, (vlan, "its MAC came from there before"))
        some = {number: device for number, device in ports.items()
                if self.labels.tags.get(device) in (None, vlan)}
        if target == _EVERYBODY:
            return self._to(bridge, some, packet, (vlan, "a broadcast goes to all ports of its VLAN"))
        choice = self._to(bridge, some, packet, (vlan, "a learning switch sends it to the one port where it has seen "
                                                 "this MAC, or to all of its VLAN; flows do not tell which"))
        return Choice(choice.ports, not choice.ports, choice.why)

    def _to(self, bridge: str, ports: Mapping[int, str], packet: Mapping[str, int], why: tuple[int, str]) -> Choice:
        vlan, reason = why
        found = []
        for number, device in sorted(ports.items()):
            if number != packet["in_port"]:
                inside = packet.get("vlan_tci", 0) & ~(TAGGED | VID) | vlan | (TAGGED if vlan else 0)
                found.append((number, {**packet, "vlan_tci": 0 if device in self.labels.tags else inside}))
        return Choice(tuple(found), True, reason)
