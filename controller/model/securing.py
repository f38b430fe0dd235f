"""Security groups as the compilers see them: the numbers and rules of the ports that one host has on a network."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.model.filtering import Profile, Resolved
from controller.model.numbers import FilterNumbers
from controller.model.topology import Port, Topology
from flows import host as narrow


def place_filter(topology: Topology, port: Port) -> narrow.Filter | None:
    """How a port is filtered; None if it is not."""
    profile = topology.filters.profile(port) if topology.is_filtered(port) else None
    if profile is None:
        return None
    numbers = topology.filters.numbers(port.host)
    return narrow.Filter(numbers.zones[port.id], numbers.profiles[profile.id])


def place_groups(topology: Topology, host: str, network: str) -> tuple[tuple[narrow.Profile, ...],
                                                                       tuple[narrow.RemoteGroup, ...]]:
    """The profiles of a host's ports on a network, and the groups that these name; none but for `openvswitch`."""
    if topology.firewall != "openvswitch":
        return (), ()
    numbers = topology.filters.numbers(host)
    found = {profile.id: profile for port in topology.whereabouts.ports(host).get(network, ())
             if (profile := topology.filters.profile(port)) is not None}
    remotes = {group.number: group for profile in found.values() for group in _remotes(topology, profile, numbers)}
    return (tuple(_place_profile(topology, profile, numbers) for profile in found.values()), tuple(remotes.values()))


def _place_profile(topology: Topology, profile: Profile, numbers: FilterNumbers) -> narrow.Profile:
    return narrow.Profile(
        number=numbers.profiles[profile.id], what=f"{', '.join(profile.groups)} on {profile.network}",
        origin=f"networks.{profile.network}", rules=tuple(_place_rules(topology, profile, numbers)),
        may_begin=profile.may_begin)


def _place_rules(topology: Topology, profile: Profile, numbers: FilterNumbers) -> Iterable[narrow.Rule]:
    """Each once: groups may have rules in common."""
    found: dict[tuple[object, ...], narrow.Rule] = {}
    for each in profile.rules:
        if each.obeyed:
            group = _number(topology, profile, each, numbers)
            row = narrow.Rule(
                origin=each.rule.path, what=each.what, by_vm=each.by_vm, version=each.version,
                protocol=each.protocol, ports=each.rule.ports, icmp_type=each.rule.icmp_type,
                icmp_code=each.rule.icmp_code, remote=each.rule.remote, group=group)
            found.setdefault((row.by_vm, row.version, row.protocol, row.ports, row.icmp_type, row.icmp_code,
                              row.remote, row.group), row)
    return found.values()


def _number(topology: Topology, profile: Profile, each: Resolved, numbers: FilterNumbers) -> int | None:
    if each.members is None:
        return None
    return numbers.remotes[topology.filters.remote_id(each, profile.network)]


def _remotes(topology: Topology, profile: Profile, numbers: FilterNumbers) -> Iterator[narrow.RemoteGroup]:
    for each in profile.rules:
        name, number = each.rule.remote_group, _number(topology, profile, each, numbers)
        if each.members is not None and name is not None and number is not None:
            yield narrow.RemoteGroup(
                number=number, name=name, origin=f"security_groups.{name}", by_vm=each.by_vm, version=each.version,
                members=tuple(prefix for prefix in each.members.prefixes if prefix.version == each.version))
