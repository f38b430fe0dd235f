"""`tunbridge plumb --host NAME`: the devices of a real host, converged with the plans that also build the lab."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

from controller.host import bridges, dhcp, execute, guarding, namespaces, refilter, routers, steps, underlay, wires
from controller.host import converge as difference
from controller.host.converge import same_make
from controller.host.devices import GIVEN, Devices, OvsPort
from controller.host.observe import NotOurs, Sight, observe
from controller.host.steps import Step
from controller.model.topology import Host, Topology
from controller.tools import machine, troubles
from controller.tools.errors import BAD_INPUT, MISSING, Refusal
from controller.tools.troubles import Trouble

Say = Callable[[str], None]

_MODULE = Path("/sys/module/openvswitch")


@dataclass(frozen=True)
class Wanted:
    """What a user asked for."""

    topology: Topology
    host: str
    rundir: Path  # of the daemon, if it is on this host
    controller: str | None = None  # None: by the daemon's Unix socket
    underlay_device: str | None = None
    provider_devices: Mapping[str, str] = field(default_factory=dict)  # physical network -> network card


def provider_devices(words: Iterable[str]) -> dict[str, str]:
    """Physical network -> network card, from `PHYSICAL_NETWORK=NIC`. Refusal if it is not of that form."""
    found = {}
    for word in words:
        physical, equals, card = word.partition("=")
        if not (physical and equals and card):
            raise Refusal(f"--provider-device wants PHYSICAL_NETWORK=NIC, as in external=eth2; this is {word!r}.",
                          BAD_INPUT)
        found[physical] = card
    return found


def commands(wanted: Wanted) -> Iterator[str]:
    """The commands that `converge` would run now, as a person would type them; nothing is changed."""
    plan = _plan(wanted)
    for step in chain(
            (step for job in plan.leaving for step in job.steps), plan.removals, plan.filter.steps, plan.additions,
            plan.plugging(touched=False), plan.plugging(touched=True),
            (step for job in plan.coming for step in job.steps)):
        yield from steps.as_commands(step)


def converge(wanted: Wanted, say: Say) -> None:
    """Make this host what the topology says `wanted.host` is. Refusal if that cannot be."""
    plan = _plan(wanted)
    for note in plan.notes:
        say(note)
    found = [*_namespaces(wanted, plan.leaving, say)]
    try:
        _do(plan.removals, say)
        closed = _filter(wanted, plan, say)
        _do((*plan.additions, *plan.plugging(touched=False), *(() if closed else plan.plugging(touched=True))), say)
    except execute.StepFailed as error:
        raise Refusal(str(error), MISSING) from error
    found += [*closed, *_namespaces(wanted, plan.coming, say)]
    troubles.write_plumb(wanted.rundir, found)
    if found:
        again = f"plumb --host {wanted.host}"
        raise Refusal("\n".join(troubles.sentences(found, again)), MISSING)
    say(f"{wanted.host} is plumbed." if plan.does_something else f"{wanted.host} is as the topology wants it.")


def _filter(wanted: Wanted, plan: _Plan, say: Say) -> tuple[Trouble, ...]:
    """The rules of the ports; those whose rules do not get in are closed."""
    try:
        _do(plan.filter.steps, say)
    except execute.StepFailed as error:
        _do(refilter.closing(plan.filter.touched), say)
        return tuple(Trouble(wanted.host, one.name, str(error)) for one in plan.filter.touched)
    return ()


def _do(todo: Iterable[Step], say: Say) -> None:
    for step in todo:
        say(f"{step.why}: {len(steps.as_commands(step))} commands" if step.lines else f"{step.why}.")
        execute.execute((step,))


def _namespaces(wanted: Wanted, jobs: Iterable[namespaces.Job], say: Say) -> Iterator[Trouble]:
    """Do what is to be done for each router and DHCP server; one that fails harms no other."""
    for job in jobs:
        try:
            _do(job.steps, say)
        except execute.StepFailed as error:
            yield Trouble(wanted.host, job.namespace.owner, str(error))


@dataclass(frozen=True)
class _Plan:
    """In the order in which it is done."""

    want: Devices
    have: Devices
    more: tuple[Step, ...]
    notes: tuple[str, ...]

    @cached_property
    def leaving(self) -> tuple[namespaces.Job, ...]:
        return namespaces.removals(self.want, self.have)

    @cached_property
    def removals(self) -> tuple[Step, ...]:
        return (*self.more, *difference.removals(self.want, self.have))

    @cached_property
    def filter(self) -> refilter.Change:
        return refilter.change(self.want.firewall, self.have.firewall)

    @cached_property
    def additions(self) -> tuple[Step, ...]:
        return difference.additions(self.want, self.have)

    def plugging(self, *, touched: bool) -> tuple[Step, ...]:
        """Of ports whose rules change, or of the others."""
        changing = {end for one in self.filter.touched for end in one.plugs}
        ends = changing if touched else difference.guarded(self.want) - changing
        return difference.plugging(self.want, self.have, ends)

    @cached_property
    def coming(self) -> tuple[namespaces.Job, ...]:
        return namespaces.additions(self.want, self.have)

    @property
    def does_something(self) -> bool:
        return any((self.leaving, self.removals, self.filter.steps, self.additions, self.coming,
                    self.plugging(touched=False), self.plugging(touched=True)))


def _plan(wanted: Wanted) -> _Plan:
    host = _host(wanted)
    if not shutil.which("ovs-vsctl"):
        raise Refusal("A host needs Open vSwitch; `apt-get install openvswitch-switch` installs it.", MISSING)
    if os.geteuid() != 0:
        raise Refusal("Plumbing a host needs root, also to look at it; run it with sudo.", MISSING)
    machine.check_routers(wanted.topology, host.name)
    machine.check_dhcp(wanted.topology, host.name)
    machine.check_firewall(wanted.topology, host.name)
    want = _devices(wanted, host)
    try:
        sight = observe(want, execute.output)
    except NotOurs as error:
        raise Refusal(str(error), MISSING) from error
    except execute.StepFailed as error:
        raise Refusal(f"{error} Is Open vSwitch running?", MISSING) from error
    _respect_others(wanted, want, sight)
    want, notes = _present(want, sight)
    want, more = _cards_kept(wanted, host, want, sight.devices)
    return _Plan(want, sight.devices, _link_to_daemon(wanted),
                 (*notes, *more, *machine.lacks(wanted.topology, host.name)))


def _cards_kept(wanted: Wanted, host: Host, want: Devices, have: Devices) -> tuple[Devices, tuple[str, ...]]:
    """Cards that were plugged in by an earlier command stay; a note for each provider bridge that has none."""
    silent = {bridge: physical for physical, bridge in host.bridge_mappings.items()
              if physical not in wanted.provider_devices}
    named = {port.name for port in want.ports}
    kept = tuple(port for port in have.ports if port.bridge in silent and not port.type and port.name not in named)
    bare = silent.keys() - {port.bridge for port in kept}
    notes = (f"{bridge} has no network card, so {silent[bridge]} is not reached: name one with "
             f"--provider-device {silent[bridge]}=NIC." for bridge in sorted(bare))
    return replace(want, ports=(*want.ports, *kept)), tuple(notes)


def _host(wanted: Wanted) -> Host:
    hosts = wanted.topology.hosts
    if wanted.host not in hosts:
        raise Refusal(f"{wanted.topology.source} has no host {wanted.host!r}; it has {', '.join(hosts)}.", BAD_INPUT)
    return hosts[wanted.host]


def _devices(wanted: Wanted, host: Host) -> Devices:
    topology, device = wanted.topology, wanted.underlay_device
    datapath = _datapath()
    if datapath == "netdev" and device is None:
        raise Refusal("This kernel has no openvswitch module, so Open vSwitch must take over the network card of the "
                      "underlay: name it with --underlay-device.", BAD_INPUT)
    feet = underlay.kernel(topology, host, device)
    if datapath == "netdev" and device is not None:
        feet = underlay.userspace(topology, host, device, neighbours=False)
    ports = wires.ports_of(topology, host.name)
    own = (*_uplinks(wanted, host), *(wires.ovs_port(topology, port) for port in ports))
    return Devices(
        topology.cloud,
        (*feet.bridges, *bridges.bridges(topology, host, datapath, wanted.controller or f"unix:{_socket()}")),
        (*feet.ports, *bridges.ports(topology, host, datapath), *own),
        tuple(link for port in ports for link in wires.links(topology, port, lab=False)),
        feet.underlay,
        (*routers.namespaces(topology, host.name, software_checksums=datapath == "netdev"),
         *dhcp.namespaces(topology, host.name)),
        guarding.firewall(topology, host.name),
    )


def _uplinks(wanted: Wanted, host: Host) -> tuple[OvsPort, ...]:
    for physical in wanted.provider_devices:
        if physical not in host.bridge_mappings:
            known = ", ".join(host.bridge_mappings) or "none"
            raise Refusal(f"{host.name} needs no bridge to the physical network {physical!r}; it needs {known}.",
                          BAD_INPUT)
    return tuple(bridges.uplink(wanted.topology, host.bridge_mappings[physical], device)
                 for physical, device in wanted.provider_devices.items())


def _datapath() -> str:
    """What br-int has, if there is one: to change it would interrupt every VM. Else the kernel's, where it has one."""
    look = Step(("ovs-vsctl", "--timeout=10", "--if-exists", "get", "Bridge", "br-int", "datapath_type"),
                "look which datapath this host has")
    try:
        present = execute.output(look).strip().strip('"')
    except execute.StepFailed as error:
        raise Refusal(f"{error} Is Open vSwitch running?", MISSING) from error
    return present or ("system" if _has_module() else "netdev")


def _has_module() -> bool:
    """Whether the kernel has Open vSwitch's datapath, or could load it; ovs-vswitchd then does."""
    if _MODULE.exists():
        return True
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["modprobe", "--dry-run", "--quiet", "openvswitch"], check=False).returncode == 0
    return False


def _respect_others(wanted: Wanted, want: Devices, sight: Sight) -> None:
    """A card that is named is there. A device of the right name and the wrong make is somebody else's, unless it wears
    our mark.
    """
    have = {link.name: link for link in sight.devices.links}
    for card in (port.name for port in want.ports if port.name in wanted.provider_devices.values()):
        if card not in have:
            raise Refusal(f"There is no network card {card} on this host; `ip link` shows what there is.", MISSING)
    for link in want.links:
        now = have.get(link.name)
        if now is not None and now.alias != want.mark and not same_make(link, now):
            raise Refusal(f"There is a device {link.name} on this host that is not ours; pin another name in the file "
                          f"(`device`), or remove it with `ip link del {link.name}`.", MISSING)


def _present(want: Devices, sight: Sight) -> tuple[Devices, tuple[str, ...]]:
    """Without the taps that no hypervisor has made yet; a note for each."""
    made = {link.name for link in want.links if link.kind != GIVEN}
    missing = {port.name for port in want.ports
               if not port.type and port.name not in made and port.name not in sight.names}
    notes = tuple(f"{name} is not there yet; plumb again when the VM runs." for name in sorted(missing))
    return replace(want, ports=tuple(port for port in want.ports if port.name not in missing)), notes


def _socket() -> Path:
    """Inside Open vSwitch's own directory, since it takes no Unix socket elsewhere."""
    return Path(os.environ.get("OVS_RUNDIR", "/var/run/openvswitch")) / "tunbridge.sock"


def _link_to_daemon(wanted: Wanted) -> tuple[Step, ...]:
    socket, target = _socket(), wanted.rundir / "openflow.sock"
    if wanted.controller is not None or (socket.is_symlink() and Path(os.readlink(socket)) == target):
        return ()
    why = "Open vSwitch takes a Unix socket in its own directory only, so a link there leads to the daemon's"
    return (Step(("ln", "--symbolic", "--force", "--no-dereference", str(target), str(socket)), why),)
