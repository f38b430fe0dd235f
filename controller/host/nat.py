"""A router's address translation as iptables rules, in the chains that Neutron's L3 agent uses.

Rules are kept in a canonical form, so that what a topology wants and what `iptables-save` says of a namespace can be
compared: `*table`, `:chain` for every chain of its own, and its `-A` lines, by table and chain, in the order in which
they are tried.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_AGENT: Final = "neutron-l3-agent"
_BOTTOM: Final = "neutron-postrouting-bottom"
_HOOKS: Final = {"nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
                 "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")}
_FROM_OUTSIDE: Final = "0x2/0xffff"  # Neutron's external_ingress_mark
_DNAT: Final = re.compile(rf"-A {_AGENT}-PREROUTING -d (\S+)/32 -j DNAT --to-destination (\S+)")


@dataclass(frozen=True)
class Outside:
    """A router's way outside: its qg- leg, its address there, and which addresses outside stand for which inside."""

    leg: str
    address: str
    snat: bool
    floating: Mapping[str, str]  # floating IP -> fixed address


def rules(outside: Outside | None) -> tuple[str, ...]:
    """The canonical rules of a router; one without a way outside has the chains alone."""
    tables = {"nat": list(_nat(outside)), "mangle": list(_mangle(outside))}
    own = {"nat": [*(f"{_AGENT}-{name}" for name in (*_HOOKS["nat"], "float-snat", "snat")), _BOTTOM],
           "mangle": [*(f"{_AGENT}-{name}" for name in _HOOKS["mangle"]), f"{_AGENT}-mark"]}
    text = (line for table, lines in tables.items()
            for line in (f"*{table}", *(f":{chain} -" for chain in own[table]), *lines, "COMMIT"))
    return canonical(text)


def _nat(outside: Outside | None) -> Iterator[str]:
    for hook in _HOOKS["nat"]:
        yield f"-A {hook} -j {_AGENT}-{hook}"
    yield f"-A POSTROUTING -j {_BOTTOM}"
    yield f"-A {_BOTTOM} -j {_AGENT}-snat"
    yield f"-A {_AGENT}-snat -j {_AGENT}-float-snat"
    if outside is None:
        return
    for floating, fixed in outside.floating.items():
        for hook in ("PREROUTING", "OUTPUT"):
            yield f"-A {_AGENT}-{hook} -d {floating}/32 -j DNAT --to-destination {fixed}"
        yield f"-A {_AGENT}-float-snat -s {fixed}/32 -j SNAT --to-source {floating}"
    yield f"-A {_AGENT}-POSTROUTING ! -o {outside.leg} -m conntrack ! --ctstate DNAT -j ACCEPT"
    if outside.snat:
        yield f"-A {_AGENT}-snat -o {outside.leg} -j SNAT --to-source {outside.address}"
    # Two VMs behind this router that speak by way of a floating IP: the answer, too, must come through here.
    yield (f"-A {_AGENT}-snat -m mark ! --mark {_FROM_OUTSIDE} -m conntrack --ctstate DNAT "
           f"-j SNAT --to-source {outside.address}")


def _mangle(outside: Outside | None) -> Iterator[str]:
    for hook in _HOOKS["mangle"]:
        yield f"-A {hook} -j {_AGENT}-{hook}"
    yield f"-A {_AGENT}-PREROUTING -j {_AGENT}-mark"
    if outside is not None:
        yield f"-A {_AGENT}-mark -i {outside.leg} -j MARK --set-xmark {_FROM_OUTSIDE}"


def canonical(lines: Iterable[str]) -> tuple[str, ...]:
    """What `iptables-save` or `iptables-restore` says, without counters, comments and tables that are not ours."""
    chains: dict[str, dict[str, list[str]]] = {}
    table = ""
    for line in map(str.strip, lines):
        if line.startswith("*"):
            table = line[1:]
        elif table in _HOOKS and line.startswith(":"):
            chains.setdefault(table, {}).setdefault(line[1:].split()[0], [])
        elif table in _HOOKS and line.startswith("-A "):
            chains.setdefault(table, {}).setdefault(line.split()[1], []).append(line)
    return tuple(line for name in sorted(chains) for line in (f"*{name}", *_of_table(chains[name])))


def _of_table(chains: Mapping[str, list[str]]) -> Iterator[str]:
    yield from (f":{chain}" for chain in sorted(chains) if not chain.isupper())
    for chain in sorted(chains):
        yield from chains[chain]


def restore(canonical_rules: Iterable[str]) -> tuple[str, ...]:
    """The lines for `iptables-restore` that make these rules, and nothing beside them, in one go."""
    lines: list[str] = []
    for line in canonical_rules:
        if line.startswith("*"):
            lines += [*(["COMMIT"] if lines else []), line]
            lines += [f":{hook} ACCEPT [0:0]" for hook in _HOOKS[line[1:]]]
        else:
            lines.append(f"{line} - [0:0]" if line.startswith(":") else line)
    return (*lines, "COMMIT") if lines else ()


def floating(canonical_rules: Iterable[str]) -> dict[str, str]:
    """Floating IP -> fixed address, as rules have it."""
    return {found[1]: found[2] for line in canonical_rules if (found := _DNAT.fullmatch(line))}
