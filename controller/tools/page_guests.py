"""Who lives on the hosts of a journey's map, and at which station each hop is: a VM, a router, a device, a bridge."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from controller.model import names
from controller.model.topology import Topology
from flows.tables import (
    ASK,
    BR_INT,
    BR_TUN,
    LEAVE,
    NEXT_HOP,
    ROUTE,
    ROUTER,
    TRANSLATE_IN,
    TRANSLATE_OUT,
    TRANSLATED_IN,
    TRANSLATED_OUT,
)

Json = dict[str, Any]
_WIRE_KINDS: Final = ("tap", "qbr", "qvb")
_PORT: Final = ("port",)
_ROUTED: Final = {one.name for one in (ROUTER, TRANSLATE_IN, TRANSLATED_IN, ROUTE, NEXT_HOP, TRANSLATE_OUT,
                                       TRANSLATED_OUT, LEAVE, ASK)}


@dataclass(frozen=True)
class Guest:
    """A VM's port, or a router."""

    key: str
    label: str
    words: str
    kind: str  # vm | router
    wires: tuple[str, ...]  # what stands between it and br-int, from its side


class Guests:
    """Of all hosts that the hops are on."""

    def __init__(self, topology: Topology, hops: list[Json]) -> None:
        self._topology, self._hops = topology, hops
        self._routed: tuple[str, str] = "", ""  # the last router that took a packet, and where
        self._who = [self._whose(hop) for hop in hops]
        self._on: dict[str, dict[str, Guest]] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._providers: dict[str, str] = {}
        for number, hop in enumerate(hops):
            self._note(number, hop)

    # ---- asked by the map

    def on(self, host: str) -> list[Guest]:
        """Those of a host that the journey comes to, in the order in which it does."""
        return list(self._on.get(host, {}).values())

    def others(self, host: str) -> str:
        """Who else lives there: `also here: db1, web3`."""
        here = self._on.get(host, {})
        rest = [port.name for port in self._topology.ports_by_host.get(host, ()) if port.name not in here]
        legs = dict.fromkeys(leg.router for leg in self._topology.legs_by_host.get(host, ()))
        rest += [name for name in legs if f"router {name}" not in here]
        return f"also here: {', '.join(rest)}" if rest else ""

    def provider(self, host: str) -> str:
        """The bridge to a physical network that the journey comes to there; empty without."""
        return self._providers.get(host, "")

    def station(self, number: int) -> str:
        """Where a hop is, by the key of its station on its host."""
        hop, who = self._hops[number], self._who[number]
        kind, device = hop["kind"], hop["device"]
        if kind == "table":
            return who or str(device)
        if kind in ("vm", "router"):
            return who
        if kind in (*_WIRE_KINDS, "port"):
            return f"{kind}:{who}"
        if kind == "patch":
            return "patch" if device in (names.PATCH_INT, names.PATCH_TUN) else "outside"
        return str(kind)  # tunnel, provider

    def device_of(self, host: str, key: str) -> str:
        """The name of a device between a guest and br-int."""
        return "qr-, qg-" if key.startswith("port:router ") else self._names.get((host, key), key.partition(":")[0])

    # ---- found in the hops

    def _whose(self, hop: Json) -> str:
        """The guest that a hop is at, or whose device it is; empty for what belongs to all of a host."""
        owner, is_leg = str(hop["owner"] or ""), str(hop["device"]).startswith((names.QR, names.QG))
        if owner and not is_leg and hop["kind"] != "router":
            return owner
        router = owner or self._simulated(hop)
        return f"router {router}" if router in self._topology.routers else ""

    def _simulated(self, hop: Json) -> str:
        """The router that a table is a part of: the one whose flow brought the packet into the routed tables."""
        if hop["kind"] != "table" or hop["device"] != BR_INT:
            return ""
        if hop["table"] == ROUTER.name:
            place, _, rest = (hop["origin"] or "").partition(".")
            self._routed = hop["host"], rest.partition(".")[0] if place == "routers" else ""
        return self._routed[1] if hop["table"] in _ROUTED and self._routed[0] == hop["host"] else ""

    def _note(self, number: int, hop: Json) -> None:
        host, who = hop["host"], self._who[number]
        if who and host in self._topology.hosts:
            self._on.setdefault(host, {}).setdefault(who, self._guest(host, who))
            self._names.setdefault((host, self.station(number)), hop["device"])
        if hop["kind"] == "table" and hop["device"] not in (BR_INT, BR_TUN):
            self._providers[host] = hop["device"]

    def _guest(self, host: str, key: str) -> Guest:
        if key.startswith("router "):
            router = self._topology.routers[key.removeprefix("router ")]
            return Guest(key, router.name, router.driver, "router", _PORT if router.driver == "namespace" else ())
        port = next(port for port in self._topology.ports_by_host[host] if port.name == key)
        return Guest(key, port.name, str(port.ip), "vm", (*_WIRE_KINDS, *_PORT) if self._topology.has_qbr() else _PORT)
