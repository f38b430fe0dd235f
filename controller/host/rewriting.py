"""From one topology to the next, where nothing but security groups differs: what that comes to in packet filters.

A rule of a large group stands in hundreds of chains. Whoever holds both topologies need make no chain of any other
port, nor look at what else a host has, to say which lines of which chains are other ones.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from controller.host import iptables, refilter
from controller.host.guarding import Meaning, guard, guarded
from controller.host.guards import Guard, Rule, filtering
from controller.host.iptables import Chains
from controller.host.refilter import Change
from controller.model.objects import Port, Vm
from controller.model.succession import Succession
from controller.model.topology import Topology


def rewriting(step: Succession) -> Mapping[str, Change] | None:
    """By host, where something is to be done; None if anything but groups differs, or a port comes under rules or
    leaves them.
    """
    old, new = step.old, step.new
    if not (new.has_qbr() and _only_groups(step) and all(_zones(old, host) == _zones(new, host) for host in new.hosts)):
        return None
    before, after = Meaning(old), Meaning(new)
    changes = {host: _of_host((old, before), (new, after), host) for host in new.ports_by_host}
    return {host: one for host, one in changes.items() if one.touched}


def _only_groups(step: Succession) -> bool:
    difference = step.difference
    return not (difference.hosts or difference.networks or difference.routers or difference.floating_ips
                or difference.sweeping) and all(
        _but_for_groups(step.old.vms.get(name)) == _but_for_groups(step.new.vms.get(name)) for name in difference.vms)


def _but_for_groups(vm: Vm | None) -> Vm | None:
    return vm and replace(vm, ports=tuple(replace(port, security_groups=()) for port in vm.ports))


def _zones(topology: Topology, host: str) -> Mapping[UUID, int]:
    return topology.filters.numbers(host).zones


def _of_host(old: tuple[Topology, Meaning], new: tuple[Topology, Meaning], host: str) -> Change:
    was, now = old[0].ports_by_host[host], new[0].ports_by_host[host]
    stood, shall = ({one.name: one for one in meaning.sets(ports)} for (_, meaning), ports in ((old, was), (new, now)))
    moved = {name for name in stood.keys() & shall.keys() if stood[name] != shall[name]}

    def differs(before: Port, after: Port) -> bool:
        rules = new[1].rules(after)
        return (old[1].rules(before) != rules or any(rule.group in moved for rule in rules)
                or _may_begin(old[0], before) != _may_begin(new[0], after))
    pairs = [(guard(old[0], before, old[1]), guard(new[0], after, new[1]))
             for before, after in zip(was, now, strict=True) if differs(before, after)]
    lines = {version: tuple(iptables.rewritten(*_chains(pairs, version))) for version in (4, 6)}
    return refilter.rewritten((tuple(shall.values()), tuple(stood.values())), lines,
                              tuple(guarded(after) for _, after in pairs))


def _may_begin(topology: Topology, port: Port) -> bool:
    profile = topology.filters.profile(port)
    return profile is not None and profile.may_begin


def _chains(pairs: Iterable[tuple[Guard, Guard]], version: int) -> tuple[Chains, Chains]:
    """The chains, want and have, of the versions and directions in which not all rules are the same."""
    both = [(before, after, by_vm) for before, after in pairs for by_vm in (False, True)
            if _obeyed(before, version, by_vm) != _obeyed(after, version, by_vm)]
    return (dict(filtering(after, version, by_vm=by_vm) for _, after, by_vm in both),
            dict(filtering(before, version, by_vm=by_vm) for before, _, by_vm in both))


def _obeyed(one: Guard, version: int, by_vm: bool) -> tuple[bool, list[Rule]]:
    return by_vm and one.may_begin, [rule for rule in one.rules if (rule.version, rule.by_vm) == (version, by_vm)]
