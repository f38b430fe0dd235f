"""A port's chains of iptables, in the layout of Neutron's hybrid driver, so that its operators' guides hold here.

Every chain is named after the first ten characters of the port's id: `i...` filters what goes into the VM, `o...`
what leaves it, `s...` whom it may say that it is. What a chain lets pass returns to `sg-chain`, whose end accepts.

Two rules are not Neutron's. A conversation that the VM has begun carries a bit of its connection mark that says so;
and one that no rule allows any more carries another, by which `i...` and `o...` drop it: were it forgotten instead,
the next packet of an established TCP connection would begin it anew, from whichever side.
"""
from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from controller.model.protocols import BEGINNINGS
from flows.port_security import link_local

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

PREFIX: Final = "neutron-openvswi-"  # the agent's name, cut to sixteen characters as Neutron cuts it
SG_CHAIN: Final = f"{PREFIX}sg-chain"
FALLBACK: Final = f"{PREFIX}sg-fallback"
ICMP_CHAIN: Final = f"{PREFIX}sg-icmp"
KEY_CHARS: Final = 10  # a chain's name has room for so much of the port's id
CUT, BY_VM = 0x1, 0x2  # bits of the connection mark

_ICMP: Final = 1
_ICMPV6: Final = 58
_NAMES: Final = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}
_NO_EXTENSION: Final = {136}  # iptables matches its ports with `multiport` only
_ANY_TYPE: Final = 255  # iptables takes this ICMP type of IPv4 for `any`; nothing begins with it
# What IPv6 cannot do without, in and out: listener and router discovery, neighbours (RFC 4861, RFC 3810).
FREE_IN: Final = (130, 134, 135, 136)
FREE_OUT: Final = (130, 131, 132, 133, 135, 136, 143)
_NOT_FROM_A_VM: Final = {134: "a VM is no router", 137: "a VM redirects nobody"}
_UNTOLD: Final = (131, 135, 143)  # what speaks of itself before it has an address
_KNOWN: Final = "-m state --state RELATED,ESTABLISHED"
_ICMP_OF: Final = {4: "-p icmp", 6: "-p ipv6-icmp"}


@dataclass(frozen=True)
class Rule:
    """One rule of a security group, resolved."""

    by_vm: bool  # egress: the VM begins; ingress: others begin
    version: int  # of IP
    protocol: int | None  # None: any
    ports: tuple[int, int] | None  # destination ports, first and last
    icmp_type: int | None
    icmp_code: int | None
    remote: Prefix | None
    group: str | None  # name of an AddressSet


@dataclass(frozen=True)
class Guard:
    """What must be known of a VM's port to guard its tap."""

    name: str  # for people: port web1
    id: str  # UUID
    address: Address
    identities: tuple[tuple[str, tuple[Prefix, ...]], ...]  # MAC -> addresses that may go with it; empty: unsecured
    zone: int | None  # of connection tracking; None: it has no security groups
    rules: tuple[Rule, ...] = ()
    may_begin: bool = False  # none of its groups has an egress rule

    @property
    def key(self) -> str:
        return self.id[:KEY_CHARS]

    @property
    def tap(self) -> str:
        return f"tap{self.id[:11]}"

    @property
    def qvb(self) -> str:
        return f"qvb{self.id[:11]}"

    @property
    def is_open(self) -> bool:
        """Nothing is asked of it."""
        return self.zone is None and not self.identities

    def chain(self, which: str) -> str:
        """The name of its chain `i`, `o` or `s`."""
        return f"{PREFIX}{which}{self.key}"


def chains(guard: Guard, version: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(chain, its rules without `-A chain`) of a port in iptables (version 4) or ip6tables (6)."""
    if guard.zone is not None:
        yield filtering(guard, version, by_vm=False)
    if not guard.is_open:
        yield filtering(guard, version, by_vm=True)
    if guard.identities:
        yield guard.chain("s"), tuple(dict.fromkeys(_spoof(guard, version)))


def filtering(guard: Guard, version: int, *, by_vm: bool) -> tuple[str, tuple[str, ...]]:
    """The chain where the rules of one direction stand."""
    rules = _out_of(guard, version) if by_vm else _into(guard, version)
    return guard.chain("o" if by_vm else "i"), tuple(dict.fromkeys(rules))


def beginnings(version: int) -> Iterator[str]:
    """The chain that ICMP must pass which belongs to no conversation that is known. Linux, unlike Open vSwitch, would
    let a conversation begin with other queries, and with other codes, too; the drivers shall not differ.
    """
    icmp, kind = ("icmp", "--icmp-type") if version == 4 else ("icmp6", "--icmpv6-type")
    for each in sorted(BEGINNINGS[_ICMP if version == 4 else _ICMPV6]):
        yield f"{_ICMP_OF[version]} -m {icmp} {kind} {each}/0 -j RETURN"
    yield "-m comment --comment \"no conversation begins with it\" -j DROP"


def _into(guard: Guard, version: int) -> Iterator[str]:
    yield _cut()
    if version == 4:
        to = [str(guard.address)] if guard.address.version == 4 else []
        yield from (f"-d {each}/32 -p udp -m udp --sport 67 --dport 68{_because('DHCP answers')} -j RETURN"
                    for each in (*to, "255.255.255.255"))
    else:
        yield from (f"{_icmpv6(kind)} -j RETURN" for kind in FREE_IN)
        yield f"-p udp -m udp --sport 547 --dport 546{_because('DHCP answers')} -j RETURN"
    yield from _stateful(guard, version, by_vm=False)


def _out_of(guard: Guard, version: int) -> Iterator[str]:
    secured, filtered = bool(guard.identities), guard.zone is not None
    if filtered:
        yield _cut()
    if version == 4:
        yield f"-s 0.0.0.0/32 -d 255.255.255.255/32{_dhcp_client(4)} -j RETURN"
    else:
        yield from (f"-s ::/128 -d ff02::/16 {_icmpv6(kind)} -j RETURN" for kind in _UNTOLD)
    if secured:
        yield f"-j {guard.chain('s')}"
        yield from _no_server(version)
    yield f"{_dhcp_client(version).strip()} -j RETURN"
    if version == 6:
        yield from (f"{_icmpv6(kind)} -j RETURN" for kind in FREE_OUT)
    if filtered:
        yield f"-m state --state NEW -j CONNMARK --set-xmark {BY_VM:#x}/{BY_VM:#x}"
        yield from _stateful(guard, version, by_vm=True)


def _no_server(version: int) -> Iterator[str]:
    """What no VM with port security ever is."""
    source, to = (67, 68) if version == 4 else (547, 546)
    yield f"-p udp -m udp --sport {source} --dport {to}{_because('a VM is no DHCP server')} -j DROP"
    if version == 6:
        yield from (f"{_icmpv6(kind)}{_because(why)} -j DROP" for kind, why in _NOT_FROM_A_VM.items())


def _stateful(guard: Guard, version: int, *, by_vm: bool) -> Iterator[str]:
    yield f"{_KNOWN}{_because('of a conversation that was allowed')} -j RETURN"
    yield f"-m state --state INVALID,UNTRACKED{_because('of no conversation that is known')} -j DROP"
    yield f"{_ICMP_OF[version]} -j {ICMP_CHAIN}"
    if by_vm and guard.may_begin:
        yield "-j RETURN"
        return
    yield from (words for rule in guard.rules if (rule.version, rule.by_vm) == (version, by_vm)
                for words in _allowing(rule))
    yield f"-j {FALLBACK}"


def _spoof(guard: Guard, version: int) -> Iterator[str]:
    for mac, prefixes in guard.identities:
        own = [prefix for prefix in prefixes if prefix.version == version]
        if version == 6:
            own.insert(0, IPv6Network(link_local(mac)))
        yield from (f"{_of('-s', prefix)}-m mac --mac-source {mac}{_because('its own MAC and address')} -j RETURN"
                    for prefix in own)
    yield "-m comment --comment \"no MAC and address of its own\" -j DROP"


def _allowing(rule: Rule) -> Iterator[str]:
    """A rule's words; none for what iptables cannot match: it then allows nothing."""
    how = _how(rule)
    if how is None or (rule.protocol == _ICMP and rule.icmp_type == _ANY_TYPE):
        return
    words = _of("-d" if rule.by_vm else "-s", rule.remote) if rule.remote is not None else ""
    words += how
    if rule.group is not None:
        words += f"-m set --match-set {rule.group} {'dst' if rule.by_vm else 'src'} "
    yield f"{words}-j RETURN"


def _how(rule: Rule) -> str | None:
    if rule.protocol is None:
        return ""
    if rule.protocol == 0:
        # To iptables, protocol 0 is any. In IPv6 it is no protocol, but an extension header.
        return "-m u32 --u32 \"0x6&0xff=0x0\" " if rule.version == 4 else None
    name = _NAMES.get(rule.protocol, str(rule.protocol))
    return f"-p {name} {_ports(rule, name)}{_type(rule)}"


def _ports(rule: Rule, name: str) -> str:
    if rule.ports is None:
        return ""
    first, last = rule.ports
    ports = str(first) if first == last else f"{first}:{last}"
    return f"-m multiport --dports {ports} " if rule.protocol in _NO_EXTENSION else f"-m {name} --dport {ports} "


def _type(rule: Rule) -> str:
    if rule.icmp_type is None or rule.protocol not in (_ICMP, _ICMPV6):
        return ""
    code = "" if rule.icmp_code is None else f"/{rule.icmp_code}"
    if rule.protocol == _ICMPV6:
        return f"-m icmp6 --icmpv6-type {rule.icmp_type}{code} "
    return f"-m icmp --icmp-type {rule.icmp_type}{code} "


def _cut() -> str:
    return f"-m connmark --mark {CUT:#x}/{CUT:#x}{_because('no rule allows it any more')} -j DROP"


def _dhcp_client(version: int) -> str:
    source, to = (68, 67) if version == 4 else (546, 547)
    return f" -p udp -m udp --sport {source} --dport {to}{_because('DHCP asks')}"


def _icmpv6(kind: int) -> str:
    return f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind}"


def _because(why: str) -> str:
    return f" -m comment --comment \"{why}\""


def _of(side: str, prefix: Prefix) -> str:
    """As iptables-save writes it: without what matches everything."""
    if prefix.prefixlen == 0:
        return ""
    return f"{side} {spelled(prefix)} "


def spelled(prefix: Prefix) -> str:
    """A prefix as the C library spells it: an IPv4 address inside IPv6 keeps its dots there."""
    if prefix.version == 4:
        return str(prefix)
    return f"{socket.inet_ntop(socket.AF_INET6, prefix.network_address.packed)}/{prefix.prefixlen}"
