"""The packet filter of a whole host: chains of all its ports together, and the canonical form that makes what a
topology wants comparable with what `iptables-save` says.

Canonical are `*table`, `:chain` for every chain of ours, sorted, and the `-A` lines by chain: those of our chains, and
those by which the kernel's own chains lead to ours. What others have in the same tables is left out, and left alone.
"""
from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

from controller.host.guards import FALLBACK, ICMP_CHAIN, PREFIX, SG_CHAIN, Guard, beginnings, chains

_TOP: Final = "neutron-filter-top"
_LOCAL: Final = f"{PREFIX}local"
_HOOKS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "filter": {"INPUT": (f"{PREFIX}INPUT",), "FORWARD": (_TOP, f"{PREFIX}FORWARD"),
               "OUTPUT": (_TOP, f"{PREFIX}OUTPUT")},
    "raw": {"PREROUTING": (f"{PREFIX}PREROUTING",)}}
_NAMED: Final = frozenset({"icmp", "tcp", "udp", "dccp", "ipv6-icmp", "sctp", "udplite"})
_PROTOCOL: Final = re.compile(r"(?<= -p )\S+")
_JUMPS: Final = frozenset(f"-j {chain}" for hooks in _HOOKS.values() for chains_ in hooks.values() for chain in chains_)
_OF_PORT: Final = re.compile(rf"{PREFIX}[ios]([0-9a-f-]{{10}})")
_AT_PORT: Final = re.compile(r" (?:tap|qvb)([0-9a-f-]{10})[0-9a-f-]")

Chains = dict[str, tuple[str, ...]]  # chain -> its rules, without `-A chain`


def rules(guards: Iterable[Guard], version: int) -> tuple[str, ...]:
    """The canonical text of a host; the order of the ports is theirs by tap."""
    ordered = sorted(guards, key=lambda guard: guard.tap)
    return _text({"filter": _filter(ordered, version), "raw": _raw(ordered)})


def _filter(guards: list[Guard], version: int) -> Chains:
    own = dict(pair for guard in guards for pair in chains(guard, version))
    return {
        "INPUT": _jumps("filter", "INPUT"), "FORWARD": _jumps("filter", "FORWARD"),
        "OUTPUT": _jumps("filter", "OUTPUT"),
        _TOP: (f"-j {_LOCAL}",), _LOCAL: (), f"{PREFIX}OUTPUT": (),
        f"{PREFIX}INPUT": tuple(line for guard in guards for line in _to_host(guard)),
        f"{PREFIX}FORWARD": tuple(line for guard in guards for line in _bridged(guard)),
        SG_CHAIN: (*(line for guard in guards for line in _dispatch(guard)), "-j ACCEPT"),
        FALLBACK: ("-m comment --comment \"no rule of its groups allows it\" -j DROP",),
        ICMP_CHAIN: tuple(beginnings(version)),
        **own}


def _to_host(guard: Guard) -> Iterator[str]:
    """The bridge is a wire: its host is nobody on it. Neutron sends this through the port's chain, and then on."""
    if not guard.is_open:
        yield f"-m physdev --physdev-in {guard.tap} -j {guard.chain('o')}"
    yield f"-m physdev --physdev-in {guard.tap} -m comment --comment \"the host is not on its wire\" -j DROP"


def _bridged(guard: Guard) -> Iterator[str]:
    target = "ACCEPT" if guard.is_open else SG_CHAIN
    for way in ("out", "in"):
        yield f"-m physdev --physdev-{way} {guard.tap} --physdev-is-bridged -j {target}"
    yield f"-m physdev --physdev-in {guard.tap} ! --physdev-is-bridged -j DROP"


def _dispatch(guard: Guard) -> Iterator[str]:
    if guard.zone is not None:
        yield f"-m physdev --physdev-out {guard.tap} --physdev-is-bridged -j {guard.chain('i')}"
    if not guard.is_open:
        yield f"-m physdev --physdev-in {guard.tap} --physdev-is-bridged -j {guard.chain('o')}"


def _raw(guards: list[Guard]) -> Chains:
    return {"PREROUTING": _jumps("raw", "PREROUTING"),
            f"{PREFIX}PREROUTING": tuple(line for guard in guards for line in _tracking(guard))}


def _tracking(guard: Guard) -> Iterator[str]:
    """A zone of its own for each port that is filtered: tenants use the same addresses. The rest is not tracked: it
    would share a zone, and fill a table that all share.
    """
    target = f"CT --zone {guard.zone}" if guard.zone is not None else "CT --notrack"
    for where in (f"-m physdev --physdev-in {guard.qvb}", f"-i {guard.qvb}", f"-m physdev --physdev-in {guard.tap}"):
        yield f"{where} -j {target}"


def _jumps(table: str, hook: str) -> tuple[str, ...]:
    return tuple(f"-j {chain}" for chain in _HOOKS[table][hook])


# From text to values, and back.

def canonical(saved: Iterable[str]) -> tuple[str, ...]:
    """What is ours in what `iptables-save` says."""
    tables: dict[str, dict[str, list[str]]] = {}
    table = ""
    for line in map(str.strip, saved):
        if line.startswith("*"):
            table = line[1:]
        elif table in _HOOKS and line.startswith(":") and _is_ours(name := line[1:].split()[0]):
            tables.setdefault(table, {}).setdefault(name, [])
        elif table in _HOOKS and line.startswith("-A "):
            _, chain, words = line.split(" ", 2)
            if _is_ours(chain) or words in _JUMPS:
                spoken = _PROTOCOL.sub(_numbered, f" {words}")[1:] if "-p " in words else words
                tables.setdefault(table, {}).setdefault(chain, []).append(spoken)
    return _text(tables)


def _is_ours(chain: str) -> bool:
    return chain.startswith(PREFIX) or chain == _TOP


def _numbered(found: re.Match[str]) -> str:
    """What a protocol is called depends on a machine's /etc/protocols, unless iptables itself knows it."""
    name = found[0]
    if name in _NAMED or name.isdigit():
        return name
    try:
        return str(socket.getprotobyname(name))
    except OSError:
        return name


def _text(tables: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[str, ...]:
    lines: list[str] = []
    for table in sorted(tables):
        chains_ = tables[table]
        lines.append(f"*{table}")
        lines += [f":{chain}" for chain in sorted(chains_) if not chain.isupper()]
        lines += [f"-A {chain} {words}" for chain in sorted(chains_) for words in chains_[chain]]
    return tuple(lines)


@lru_cache(maxsize=256)
def parsed(text: tuple[str, ...]) -> Mapping[str, Chains]:
    """Table -> its chains, of canonical text."""
    found: dict[str, dict[str, list[str]]] = {}
    table = ""
    for line in text:
        if line.startswith("*"):
            table = line[1:]
            found[table] = {}
        elif line.startswith(":"):
            found[table][line[1:]] = []
        else:
            _, chain, words = line.split(" ", 2)
            found[table].setdefault(chain, []).append(words)
    return {name: {chain: tuple(lines) for chain, lines in chains_.items()} for name, chains_ in found.items()}


def restore(want: tuple[str, ...], have: tuple[str, ...]) -> tuple[str, ...]:
    """The lines for `iptables-restore --noflush` that turn one canonical text into another, each table in one go.

    Chains and rules that do not change are not written, and their counters go on: where a chain has as many rules as
    before, those that differ are replaced in their places. Tracking comes before what asks for it.
    """
    wanted, standing = parsed(want), parsed(have)
    lines: list[str] = []
    for table in sorted(wanted.keys() | standing.keys(), reverse=True):
        lines += _delta(table, wanted.get(table, {}), standing.get(table, {}))
    return tuple(lines)


def rewritten(want: Chains, have: Chains) -> Iterator[str]:
    """The same for chains of the table `filter` alone, of ports that were and are guarded."""
    yield from _delta("filter", want, have)


def _delta(table: str, want: Chains, have: Chains) -> Iterator[str]:
    changed = [chain for chain, lines in want.items() if not chain.isupper() and have.get(chain) != lines]
    replaced = {chain for chain in changed if chain in have and len(have[chain]) == len(want[chain])}
    changed = [chain for chain in changed if chain not in replaced]
    gone = [chain for chain in have if not chain.isupper() and chain not in want]
    hooks = [*_hooks(want, have)]
    if not (changed or replaced or gone or hooks):
        return
    yield f"*{table}"
    yield from (f":{chain} - [0:0]" for chain in (*changed, *gone))
    yield from hooks
    yield from (f"-A {chain} {words}" for chain in changed for words in want[chain])
    for chain in sorted(replaced):
        yield from (f"-R {chain} {number} {shall}"
                    for number, (shall, stands) in enumerate(zip(want[chain], have[chain], strict=True), start=1)
                    if shall != stands)
    yield from (f"-X {chain}" for chain in gone)
    yield "COMMIT"


def _hooks(want: Chains, have: Chains) -> Iterator[str]:
    for hook in sorted(chain for chain in want.keys() | have.keys() if chain.isupper()):
        shall, stands = want.get(hook, ()), have.get(hook, ())
        if shall != stands:
            yield from (f"-D {hook} {words}" for words in stands)
            yield from (f"-I {hook} {words}" for words in reversed(shall))


def keys_of_difference(one: tuple[str, ...], other: tuple[str, ...]) -> set[str]:
    """The keys of the ports about which two canonical texts do not say the same."""
    found: set[str] = set()
    tables, others = parsed(one), parsed(other)
    for table in tables.keys() | others.keys():
        mine, theirs = tables.get(table, {}), others.get(table, {})
        for chain in mine.keys() | theirs.keys():
            here, there = mine.get(chain), theirs.get(chain)
            if here != there:
                match = _OF_PORT.fullmatch(chain)
                found |= {match[1]} if match else _named(set(here or ()) ^ set(there or ()))
    return found


def _named(lines: Iterable[str]) -> set[str]:
    return {match[1] for line in lines if (match := _AT_PORT.search(line))}


def with_sets(text: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(key of a port, name of a set that its chains ask), of canonical text."""
    for line in text:
        if "--match-set " in line and (match := _OF_PORT.fullmatch(line.split(" ", 2)[1])):
            yield match[1], line.partition("--match-set ")[2].split()[0]


def zones(text: Iterable[str]) -> dict[str, int]:
    """Key of a port -> its zone of connection tracking, of canonical text."""
    lines = (line for line in text if "-j CT --zone " in line)
    return {match[1]: int(line.rpartition(" ")[2]) for line in lines if (match := _AT_PORT.search(line))}
