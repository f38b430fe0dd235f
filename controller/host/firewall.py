"""A host's packet filter as a value: chains of iptables and ip6tables, sets of addresses, and the ports behind them.

`guards` says what a port wants, `iptables` what stands in the kernel; `refilter` compares the two.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class AddressSet:
    """An ipset of type hash:net: who is meant by a remote group."""

    name: str
    version: int  # of IP
    members: tuple[str, ...]  # prefixes, sorted; none is /0


@dataclass(frozen=True)
class Guarded:
    """A port whose tap has rules."""

    key: str  # the first ten characters of its id, with which its chains end
    name: str  # for people: port web1
    tap: str
    zone: int | None  # of connection tracking; None: it has no security groups, nothing is tracked
    judge: str = ""  # JSON: which conversations are allowed, as `sweep` reads it

    @property
    def plugs(self) -> tuple[str, str]:
        """Both ends on its Linux bridge: tap and qvb. Whoever starts a VM may plug in the tap; the other is ours."""
        return self.tap, f"qvb{self.tap[3:]}"


@dataclass(frozen=True)
class Firewall:
    """What stands, or shall stand, in the kernel. `guarded` is empty in what was read from a kernel."""

    v4: tuple[str, ...] = ()  # in the form of `iptables.canonical`
    v6: tuple[str, ...] = ()
    sets: tuple[AddressSet, ...] = ()
    guarded: tuple[Guarded, ...] = ()
    switched_on: bool = True  # frames on a Linux bridge pass iptables


UNKNOWN: Final = Firewall(switched_on=False)  # nothing can be relied on
