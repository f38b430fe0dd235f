"""`tunbridge plumb --host NAME`: the devices of a real host, converged with the plans that also build the lab."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from controller.host import bridges, execute, steps, underlay, wires
from controller.host.converge import converge as difference
from controller.host.converge import same_make
from controller.host.devices import GIVEN, Devices
from controller.host.observe import NotOurs, Sight, observe
from controller.host.steps import Step
from controller.model.topology import Host, Topology
from controller.tools.errors import BAD_INPUT, MISSING, Refusal

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


def commands(wanted: Wanted) -> Iterator[str]:
    """The commands that `converge` would run now, as a person would type them; nothing is changed."""
    for step in _plan(wanted).steps:
        yield from steps.as_commands(step)


def converge(wanted: Wanted, say: Say) -> None:
    """Make this host what the topology says `wanted.host` is. Refusal if that cannot be."""
    plan = _plan(wanted)
    for note in plan.notes:
        say(note)
    try:
        for step in plan.steps:
            say(f"{step.why}: {len(steps.as_commands(step))} commands" if step.lines else f"{step.why}.")
            execute.execute((step,))
    except execute.StepFailed as error:
        raise Refusal(str(error), MISSING) from error
    say(f"{wanted.host} is as the topology wants it." if not plan.steps else f"{wanted.host} is plumbed.")


@dataclass(frozen=True)
class _Plan:
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def _plan(wanted: Wanted) -> _Plan:
    host = _host(wanted)
    if not shutil.which("ovs-vsctl"):
        raise Refusal("A host needs Open vSwitch; `apt-get install openvswitch-switch` installs it.", MISSING)
    if os.geteuid() != 0:
        raise Refusal("Plumbing a host needs root, also to look at it; run it with sudo.", MISSING)
    want = _devices(wanted, host)
    try:
        sight = observe(want, execute.output)
    except NotOurs as error:
        raise Refusal(str(error), MISSING) from error
    except execute.StepFailed as error:
        raise Refusal(f"{error} Is Open vSwitch running?", MISSING) from error
    _respect_others(want, sight)
    want, notes = _present(want, sight)
    return _Plan((*_link_to_daemon(wanted), *difference(want, sight.devices)), notes)


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
    return Devices(
        topology.cloud,
        (*feet.bridges, *bridges.bridges(host, datapath, wanted.controller or f"unix:{_socket()}")),
        (*feet.ports, *bridges.ports(topology, host), *(wires.ovs_port(topology, port) for port in ports)),
        tuple(link for port in ports for link in wires.links(topology, port, lab=False)),
        feet.underlay,
    )


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


def _respect_others(want: Devices, sight: Sight) -> None:
    """A device of the right name and the wrong make is somebody else's, unless it wears our mark."""
    have = {link.name: link for link in sight.devices.links}
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
