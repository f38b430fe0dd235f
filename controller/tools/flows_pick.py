"""Which flows are wanted: those that come from a line of the topology, or have to do with a VM."""
from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.model.places import Places
from controller.tools.errors import BAD_INPUT, MISSING, Refusal

Json = dict[str, Any]
_LINE: Final = re.compile(r"(?:(.*):)?(\d+)")
_RULES: Final = " Where the firewall is iptables_hybrid, rules are no flows: look with iptables -nvL on the host."
_CARD: Final = re.compile(r"(.+):eth(\d+)")


@dataclass(frozen=True)
class Choice:
    """Some flows. `words` says which, for people."""

    words: str
    keep: Callable[[Json], bool]
    hint: str = ""  # where else to look, if there is none

    def of(self, parts: Iterable[Json]) -> Iterator[Json]:
        """Of each bridge, these; without bridges that have none of them, but with those that could not be asked."""
        for part in parts:
            flows = [flow for flow in part["flows"] if self.keep(flow)]
            if flows or not part.get("connected", True):
                yield {**part, "flows": flows}


def from_line(text: str, file: str) -> Choice:
    """The flows whose origin is at `FILE:LINE`, at a line of `file`, or is an object (`vms.web1`) or a part of it.

    Where nothing has its origin in just that line, it is what the line belongs to. Refusal if there is no such line, or
    nothing stands there.
    """
    found = _LINE.fullmatch(text)
    if found is None:
        return Choice(text, lambda flow: _belongs(flow["origin"], text))
    name, line = found[1] or file, int(found[2])
    places = Places(name)
    if not Path(name).is_file():
        raise Refusal(f"There is no file {name}; say FILE:LINE, a line of {file}, or an object like vms.web1.", MISSING)
    path = places.path_at(line)
    if path is None:
        why = "nothing stands there" if line <= places.last else f"it has {places.last} lines"
        raise Refusal(f"{name}:{line} is no object of a topology: {why}.", BAD_INPUT)
    hint = _RULES if path.startswith("security_groups") else ""
    return Choice(f"{name}:{line} ({path})", lambda flow: _belongs(flow["origin"], path), hint)


def _belongs(origin: str, path: str) -> bool:
    """Whether one of two paths is the other, or leads there."""
    return origin == path or _leads(path, origin) or _leads(origin, path)


def _leads(path: str, deeper: str) -> bool:
    return path != "" and deeper.startswith(path) and deeper[len(path):len(path) + 1] in (".", "[")


def of_vm(name: str) -> Choice:
    """The flows that a VM, or one of its ports (`fw1:eth1`), has brought, or that name it in what they match and do."""
    card = _CARD.fullmatch(name)
    path = f"vms.{card[1]}.ports[{card[2]}]" if card else f"vms.{name}"

    def keep(flow: Json) -> bool:
        origin, named = flow["origin"], flow.get("names", {}).get("ports", {}).values()
        return origin == path or _leads(path, origin) or any(one == name or one.startswith(f"{name}:") for one in named)

    return Choice(name, keep)


def check_vm(name: str, known: Iterable[str]) -> None:
    """Refusal with the nearest name if there is no such VM or port."""
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "look at `tunbridge check`."
        raise Refusal(f"There is no VM or port {name!r}; {hint}", BAD_INPUT)
