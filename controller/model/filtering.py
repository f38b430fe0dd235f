"""What security groups allow, read from the topology alone: the yardstick that both firewall drivers are held against.

It knows nothing of flows, chains or connection tracking. It judges the first packet of a conversation; of one that is
allowed all packets pass, answers and related ICMP errors included, whoever sends them. Port security is not its
business: that holds before it, whatever the groups say.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from controller.model import protocols
from controller.model.differing import Change, Difference
from controller.model.membership import NOBODY, Members, components, members_by_group
from controller.model.numbers import FilterNumbers, number_filters
from controller.model.objects import Port, Prefix, SecurityRule
from controller.model.protocols import Datagram

if TYPE_CHECKING:
    from controller.model.topology import Topology

__all__ = ["Datagram", "Filters", "Profile", "Resolved", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Whether a conversation may begin, and what decides it."""

    passes: bool
    why: str  # a sentence without its full stop
    rule: SecurityRule | None = None  # the one that allows it; None if something else does, or nothing


_INVALID = Verdict(False, "it begins no conversation, and belongs to none")


@dataclass(frozen=True)
class Resolved:
    """A rule as the ports of a network obey it."""

    group: str  # whose rule it is
    rule: SecurityRule
    by_vm: bool  # egress: the VM begins; ingress: others do
    version: int  # of IP
    protocol: int | None  # None: any
    members: Members | None  # of the rule's remote group, seen from the network; None: it names none
    obeyed: bool  # False: the firewall driver cannot do it, so it allows nothing

    @property
    def what(self) -> str:
        """`web: tcp 80 from 0.0.0.0/0`, for people."""
        return f"{self.group}: {words(self.rule)}"

    def allows(self, datagram: Datagram) -> bool:
        """Whether it lets this begin a conversation, in its direction."""
        if not self.obeyed or self.version != datagram.version or self.protocol not in (None, datagram.protocol):
            return False
        rule, other = self.rule, datagram.destination if self.by_vm else datagram.source
        if rule.ports is not None and (datagram.port is None or not rule.ports[0] <= datagram.port <= rule.ports[1]):
            return False
        if rule.icmp_type not in (None, datagram.icmp_type) or rule.icmp_code not in (None, datagram.icmp_code):
            return False
        if self.members is not None:
            return other in self.members
        return rule.remote is None or other in rule.remote


@dataclass(frozen=True)
class Profile:
    """What ports of one network with the same set of groups may begin and be begun with."""

    id: UUID
    network: str
    groups: tuple[str, ...]  # by name
    rules: tuple[Resolved, ...]
    may_begin: bool  # none of the groups has an egress rule: its VMs may begin anything


def words(rule: SecurityRule) -> str:
    """`tcp 80-90 from 10.0.0.0/8`, `icmp type 8 to group web`, `any IPv6 from anybody`."""
    parts = [str(rule.protocol if rule.protocol is not None else "any")]
    if rule.ports is not None:
        first, last = rule.ports
        parts.append(str(first) if first == last else f"{first}-{last}")
    parts += [f"{name} {value}" for name, value in (("type", rule.icmp_type), ("code", rule.icmp_code))
              if value is not None]
    if rule.remote is None:
        parts.append(rule.ethertype)
    parts.append("to" if rule.direction == "egress" else "from")
    parts.append(f"group {rule.remote_group}" if rule.remote_group is not None else str(rule.remote or "anybody"))
    return " ".join(parts)


class Filters:
    """The security groups of a topology, made once and then asked often."""

    def __init__(self, topology: Topology, component: Mapping[str, str] | None = None) -> None:
        self.topology = topology
        inside = ((leg.network for leg in legs if not leg.outside) for legs in topology.legs_by_router.values())
        self._component = components(topology.networks, inside) if component is None else component
        self._members: dict[tuple[str, str], Members] = {}
        if component is None:
            self._members.update(members_by_group(topology.ports(), self._component))
        self._profiles: dict[str, dict[frozenset[str], Profile]] = {}  # by network and names of groups
        self._numbers: dict[str, FilterNumbers] = {}
        self.refiltered: frozenset[str] | None = None  # networks that may be filtered otherwise than before `after`

    # ---- what the groups come to

    def joined(self, network: str) -> tuple[str, ...]:
        """The networks that routers join with this one, itself included, by name; the first names them all."""
        return self._networks[self._component[network]]

    @cached_property
    def _networks(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for network, component in sorted(self._component.items()):
            found.setdefault(component, []).append(network)
        return {component: tuple(networks) for component, networks in found.items()}

    def members(self, group: str, network: str) -> tuple[Prefix, ...]:
        """Whom a rule of a port on this network means by a group, in order."""
        return self._members_of(group, network).prefixes

    def _members_of(self, group: str, network: str) -> Members:
        return self._members.get((group, self._component[network]), NOBODY)

    def profile(self, port: Port) -> Profile | None:
        """What a port obeys; None if it is not filtered."""
        if not self.topology.is_filtered(port):
            return None
        known, names = self._profiles.setdefault(port.network, {}), frozenset(port.security_groups)
        if names not in known:
            known[names] = self._make(port.network, names)
        return known[names]

    def rules(self, port: Port) -> tuple[Resolved, ...]:
        """The rules of a port's groups, in the order of the file; none if it is not filtered."""
        profile = self.profile(port)
        return profile.rules if profile is not None else ()

    def _make(self, network: str, names: frozenset[str]) -> Profile:
        groups = [self.topology.security_groups[name] for name in sorted(names)]
        ids = ",".join(sorted(str(group.id) for group in groups))
        return Profile(
            id=uuid5(self.topology.networks[network].id, ids), network=network, groups=tuple(sorted(names)),
            rules=tuple(self._resolve(group.name, rule, network) for group in groups for rule in group.rules),
            may_begin=not any(rule.direction == "egress" for group in groups for rule in group.rules))

    def _resolve(self, group: str, rule: SecurityRule, network: str) -> Resolved:
        version = 6 if rule.ethertype == "IPv6" else 4
        protocol = protocols.protocol_number(rule.protocol, version)
        obeyed = (rule.ports is None or protocol in protocols.PORTS_IN_OPENFLOW
                  or self.topology.firewall != "openvswitch")
        members = self._members_of(rule.remote_group, network) if rule.remote_group is not None else None
        return Resolved(group, rule, rule.direction == "egress", version, protocol, members, obeyed)

    # ---- what follows

    def after(self, topology: Topology, ports: Change[Port], difference: Difference) -> Filters:
        """Of a topology that differs in this from the own one, and not in the legs of its routers."""
        found = Filters(topology, self._component_after(difference.networks, topology))
        found._members.update(self._members)
        if found._component is self._component:
            vars(found)["_networks"] = self._networks
        stale = found._renew_members(self, ports) | difference.networks | self._using(difference.groups)
        found._profiles = {name: known for name, known in self._profiles.items() if name not in stale}
        others = {host for name in difference.networks | self._using(difference.groups)
                  for where in (self.topology, topology) for host in where.whereabouts.carriers(name)}
        found._numbers = {host: known for host, known in self._numbers.items() if host not in ports.hosts | others}
        moved = (host for host in self._numbers.keys() - found._numbers.keys() if host in topology.hosts
                 and not self._numbers[host].goes_on_in(found.numbers(host)))
        renumbered = (name for host in moved for name in topology.whereabouts.carried(host))
        found.refiltered = frozenset(stale | ports.networks | {*renumbered})
        return found

    def _component_after(self, networks: Collection[str], topology: Topology) -> Mapping[str, str]:
        """Those that come or go have no legs, or these would differ."""
        rest = {name: own for name, own in self._component.items() if name not in networks} if networks else {}
        changed = ((name, self._component.get(name, name)) for name in networks if name in topology.networks)
        return {**rest, **dict(changed)} if networks else self._component

    def _renew_members(self, before: Filters, ports: Change[Port]) -> set[str]:
        """The networks to whose rules other members belong."""
        both = (before._component, ports.gone), (self._component, ports.come)
        touched = {(group, component[port.network]) for component, changed in both for port in changed
                   for group in port.security_groups}
        networks: set[str] = set()
        for group, component in touched:
            inside = self._networks.get(component, ())
            everybody = (port for name in inside for port in self.topology.ports_by_network.get(name, ()))
            members = members_by_group((port for port in everybody if group in port.security_groups), self._component)
            now, then = members.get((group, component), NOBODY), self._members.pop((group, component), NOBODY)
            if now.prefixes != then.prefixes:
                networks.update(inside)
            if now.prefixes:
                self._members[group, component] = now
        return networks

    def _using(self, groups: frozenset[str]) -> set[str]:
        """The networks of ports that obey one of these groups, or name one as a remote."""
        if not groups:
            return set()
        return {name for name, known in self._profiles.items() for profile in known.values()
                if groups.intersection(profile.groups)
                or groups.intersection(each.rule.remote_group or "" for each in profile.rules)}

    # ---- who may begin

    def leaves(self, port: Port, datagram: Datagram) -> Verdict:
        """Whether the VM may begin a conversation with this packet."""
        profile = self.profile(port)
        if profile is None:
            return self._free(port)
        if always := protocols.leaves_always(datagram):
            return Verdict(True, always)
        if not protocols.begins(datagram):
            return _INVALID
        if profile.may_begin:
            return Verdict(True, f"no group of {port.name} has an egress rule, so it may begin anything")
        return _judged(profile, port, datagram, by_vm=True)

    def enters(self, port: Port, datagram: Datagram) -> Verdict:
        """Whether others may begin a conversation with the VM with this packet."""
        profile = self.profile(port)
        if profile is None:
            return self._free(port)
        if always := protocols.enters_always(datagram, port.ip):
            return Verdict(True, always)
        if not protocols.begins(datagram):
            return _INVALID
        return _judged(profile, port, datagram, by_vm=False)

    def _free(self, port: Port) -> Verdict:
        why = f"{port.name} lists no security group" if self.topology.firewall != "none" else "the firewall is off"
        return Verdict(True, why)

    # ---- numbers, and what flows depend on

    def numbers(self, host: str) -> FilterNumbers:
        """The numbers of a host's filtered ports, of their profiles and of the groups that these name."""
        if host not in self._numbers:
            ports = {port.id: profile for port in self.topology.ports_by_host.get(host, ())
                     if (profile := self.profile(port)) is not None}
            profiles = {profile.id: profile for profile in ports.values()}
            remotes = {self.remote_id(rule, profile.network) for profile in profiles.values() for rule in profile.rules
                       if rule.members is not None}
            self._numbers[host] = number_filters(ports, profiles, remotes)
        return self._numbers[host]

    def remote_id(self, resolved: Resolved, network: str) -> UUID:
        """What tells a remote group apart: the network whose ports name it, the group, the direction, the version."""
        assert resolved.rule.remote_group is not None
        group = self.topology.security_groups[resolved.rule.remote_group]
        return uuid5(self.topology.networks[network].id, f"{group.id}/{resolved.rule.direction}/{resolved.version}")

    def face(self, network: str) -> tuple[object, ...]:
        """What the flows of a network depend on, as far as groups go: two topologies with equal ones filter it alike.

        So whoever joins or leaves a group touches the networks whose rules name it, where these are joined, and
        beside the own one no others.
        """
        ports, profiles = [], {}
        for port in self.topology.ports_by_network.get(network, ()):
            profile = self.profile(port)
            if profile is not None:
                numbers = self.numbers(port.host)
                ports.append((port.id, numbers.zones[port.id], numbers.profiles[profile.id]))
                profiles[profile.id, port.host] = profile
        obeyed = self.topology.firewall == "openvswitch"  # else br-int only tells who is filtered
        rules = [row for (_, host), profile in profiles.items() for row in self._face_of(profile, host)]
        return tuple(ports), tuple(rules) if obeyed else ()

    def _face_of(self, profile: Profile, host: str) -> Iterator[tuple[object, ...]]:
        remotes = self.numbers(host).remotes
        yield profile.id, host, profile.groups, profile.may_begin
        for rule in profile.rules:
            digest, number = b"", 0
            if rule.members is not None:
                digest, number = rule.members.digest, remotes[self.remote_id(rule, profile.network)]
            yield rule.what, rule.rule.path, rule.version, rule.obeyed, digest, number


def _judged(profile: Profile, port: Port, datagram: Datagram, *, by_vm: bool) -> Verdict:
    for resolved in profile.rules:
        if resolved.by_vm == by_vm and resolved.allows(datagram):
            return Verdict(True, f"{resolved.what} (line {resolved.rule.line})", resolved.rule)
    kind = "egress" if by_vm else "ingress"
    return Verdict(False, f"no {kind} rule of {', '.join(profile.groups)} lets {port.name} "
                          f"{'begin' if by_vm else 'hear'} this")
