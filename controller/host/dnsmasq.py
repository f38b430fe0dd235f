"""A dnsmasq in its namespace: started, told of changes and ended by ordinary commands, and known again by its files.

It gives root away, so its files must lie where anybody may look: not below a run directory, but in one for each
network below /run. It keeps the right to speak on its one wire, and can get nothing back.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from controller.host import steps
from controller.host.devices import Dnsmasq, Namespace
from controller.host.steps import Step

HOME: Final = "/run/tunbridge-dhcp"  # each hypervisor of a lab has its own
PREFIX: Final = "qdhcp-"  # of the namespaces
_CONF, _HOSTS, _OPTIONS, _LEASES, _PID = "conf", "host", "opts", "leases", "pid"  # as Neutron calls them
_PATIENCE: Final = "5"  # seconds for it to end


def directory(namespace: str) -> str:
    """Where the files of a namespace's dnsmasq are: `/run/tunbridge-dhcp/<network id>`."""
    return f"{HOME}/{namespace.removeprefix(PREFIX)}"


def own_files(namespace: str) -> tuple[str, ...]:
    """The lines of its configuration that say where it reads and writes."""
    home = directory(namespace)
    return (f"dhcp-hostsfile={home}/{_HOSTS}", f"dhcp-optsfile={home}/{_OPTIONS}", f"dhcp-leasefile={home}/{_LEASES}",
            f"pid-file={home}/{_PID}")


# Steps.

def serve(want: Namespace, now: Namespace) -> Iterator[Step]:
    """What turns the dnsmasq of a namespace as it is into what it shall be.

    It reads anew what has been added; to forget a lease, it must be started again: to a new owner it would refuse
    an address that an old one holds.
    """
    new, old = want.dnsmasq, now.dnsmasq
    moved = _bound(want) != _bound(now)
    if new is None or (new == old and not moved):
        return
    again = old is None or moved or new.config != old.config or not set(old.hosts) <= set(new.hosts)
    if again and now.legs:
        yield from end(want.name, f"{want.owner} starts anew")
    yield from _write(want.name, {_HOSTS: new.hosts, _OPTIONS: new.options}, f"whom {want.owner} serves, and with what")
    if not again:
        yield _signal("HUP", want.name, f"{want.owner} reads again what has changed")
        return
    yield from _write(want.name, {_CONF: new.config, _LEASES: _leases(new)}, f"the settings of {want.owner}")
    yield Step((*steps.entering(want.name), "setpriv", "--no-new-privs", *_command(want.name)), f"start {want.owner}")


def end(namespace: str, why: str) -> Iterator[Step]:
    """End the dnsmasq of a namespace, and wait until it is gone; fine if none runs."""
    yield _signal("TERM", namespace, why, tolerant=True)
    yield Step(("timeout", _PATIENCE, "pidwait", *_it(namespace)), "wait until it is gone", tolerant=True)
    yield _signal("KILL", namespace, "if it has not ended by itself", tolerant=True)


def forget(namespace: str, why: str) -> Iterator[Step]:
    """End the dnsmasq of a namespace that goes, and remove its files."""
    yield from end(namespace, why)
    yield Step(("rm", "-r", "-f", directory(namespace)), why)


def _bound(namespace: Namespace) -> set[tuple[str, str, frozenset[str]]]:
    """What it listens on."""
    return {(leg.name, leg.mac, frozenset(leg.addresses)) for leg in namespace.legs}


def _write(namespace: str, files: dict[str, tuple[str, ...]], why: str) -> Iterator[Step]:
    for name, lines in files.items():
        yield Step(("install", "-D", "-m", "644", "/dev/stdin", f"{directory(namespace)}/{name}"), why, lines)


def _leases(server: Dnsmasq) -> tuple[str, ...]:
    """As if each client had asked before (0: for ever, until it asks): a new server then refuses no renewal."""
    clients = (line.split(",") for line in server.hosts if "[" not in line)
    return tuple(f"0 {mac} {address} {name} *" for mac, name, address in clients)


def _signal(name: str, namespace: str, why: str, *, tolerant: bool = False) -> Step:
    return Step(("pkill", f"-{name}", *_it(namespace)), why, tolerant=tolerant)


def _it(namespace: str) -> tuple[str, ...]:
    """The process that wrote the pid file, if it still is that dnsmasq."""
    return "-F", f"{directory(namespace)}/{_PID}", "-f", f"^{' '.join(_command(namespace))}$"


def _command(namespace: str) -> tuple[str, ...]:
    return "dnsmasq", f"--conf-file={directory(namespace)}/{_CONF}"


# What there is.

def observe(shall: Namespace, read: Callable[[Step], str]) -> Dnsmasq | None:
    """What serves in a namespace; None if nothing does. `read` runs a command that changes nothing."""
    why = f"look whether {shall.owner} runs, and how"
    if not read(Step(("pgrep", *_it(shall.name)), why, tolerant=True)).strip():
        return None
    config, hosts, options = (
        tuple(read(Step(("cat", f"{directory(shall.name)}/{name}"), why, tolerant=True)).splitlines())
        for name in (_CONF, _HOSTS, _OPTIONS))
    return Dnsmasq(config, hosts, options)


def runs(namespace: str, anchor: int) -> bool:
    """Whether it does, in a hypervisor of a lab; `anchor`: the process that holds the hypervisor's namespaces."""
    try:
        pid = int(Path(f"/proc/{anchor}/root{directory(namespace)}/{_PID}").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    return [word.decode(errors="replace") for word in words if word] == list(_command(namespace))
