"""What stands of a host's packet filter, as its kernel says."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network
from typing import Final

from controller.host import iptables
from controller.host.execute import StepFailed
from controller.host.firewall import UNKNOWN, AddressSet, Firewall
from controller.host.guards import spelled
from controller.host.steps import Step

Read = Callable[[Step], str]  # runs a command that changes nothing; its output

_WHY: Final = "read the packet filter"
_OURS: Final = re.compile(r"NIPv([46])[0-9a-f-]{26}")
_SWITCHES: Final = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")


def observe(read: Read) -> Firewall:
    """Chains and sets that are ours; UNKNOWN if the kernel cannot be asked."""
    try:
        v4, v6 = (iptables.canonical(_said(read, f"{name}-save").splitlines()) for name in ("iptables", "ip6tables"))
        # A set that no rule names stands for nothing; it is made anew where it is wanted.
        named = any("--match-set" in line for line in (*v4, *v6))
        sets = tuple(_sets(_said(read, "ipset", "save").splitlines())) if named else ()
    except StepFailed:
        return UNKNOWN
    switches = read(Step(("sysctl", "-n", *_SWITCHES), _WHY, tolerant=True)).split()
    return Firewall(v4, v6, sets, switched_on=switches == ["1", "1"])


def _said(read: Read, *argv: str) -> str:
    return read(Step(argv, _WHY))


def _sets(lines: Iterable[str]) -> Iterator[AddressSet]:
    """From `create NAME TYPE ...` and `add NAME PREFIX`."""
    members: dict[str, list[str]] = {}
    for words in (line.split() for line in lines):
        if len(words) > 2 and _OURS.fullmatch(words[1]):
            found = members.setdefault(words[1], [])
            if words[0] == "add":
                found.append(spelled(ip_network(words[2])))
    yield from (AddressSet(name, int(name[4]), tuple(sorted(found))) for name, found in members.items())
