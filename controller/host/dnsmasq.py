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

# A question names the card that asks a second time, inside. With another's name a VM could give back or decline its
# neighbour's address, so the two must agree: a filter for bpf(4) that compares bytes 6 to 11 of the frame, which are
# its sender, with chaddr (RFC 2131, 2), 28 bytes into the UDP datagram.
_LINK: Final = 0x1_0000_0000 - 0x200000  # linux/filter.h, SKF_LL_OFF: where the frame starts
_PAYLOAD: Final = 8  # a UDP header
_OWN_NAME: Final = (
    (0x20, 0, 0, _LINK + 8), (0x02, 0, 0, 0),  # M[0] = the sender's last four bytes
    (0x28, 0, 0, _LINK + 6), (0x02, 0, 0, 1),  # M[1] = its first two
    (0xb1, 0, 0, 0), (0x40, 0, 0, _PAYLOAD + 30), (0x61, 0, 0, 0), (0x1d, 0, 5, 0),  # behind IP: unlike M[0]?
    (0xb1, 0, 0, 0), (0x48, 0, 0, _PAYLOAD + 28), (0x61, 0, 0, 1), (0x1d, 0, 1, 0),  # unlike M[1]?
    (0x06, 0, 0, 0xffff), (0x06, 0, 0, 0))
_PROGRAM: Final = ",".join([str(len(_OWN_NAME)), *(" ".join(map(str, each)) for each in _OWN_NAME)])
GUARD: Final = (f'-A INPUT -p udp -m udp --dport 67 -m bpf --bytecode "{_PROGRAM}" -j ACCEPT',
                '-A INPUT -p udp -m udp --dport 67 -m comment --comment "it asks in the name of another" -j DROP')


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
    again = (old is None or moved or (new.config, new.guard) != (old.config, old.guard)
             or not set(old.hosts) <= set(new.hosts))
    if again and now.legs:
        yield from end(want.name, f"{want.owner} starts anew")
    yield from _write(want.name, {_HOSTS: new.hosts, _OPTIONS: new.options}, f"whom {want.owner} serves, and with what")
    if not again:
        yield _signal("HUP", want.name, f"{want.owner} reads again what has changed")
        return
    yield from _write(want.name, {_CONF: new.config, _LEASES: _leases(new)}, f"the settings of {want.owner}")
    # A kernel that cannot do this (xt_bpf) serves all the same; `machine.lacks` says so.
    yield Step((*steps.entering(want.name), "iptables-restore"), "each asks in its own name",
               ("*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT ACCEPT [0:0]", *new.guard, "COMMIT"),
               tolerant=True)
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
    rules = read(Step((*steps.entering(shall.name), "iptables-save", "-t", "filter"), why, tolerant=True)).splitlines()
    return Dnsmasq(config, hosts, options, tuple(line for line in rules if line.startswith("-A ")))


def runs(namespace: str, anchor: int) -> bool:
    """Whether it does, in a hypervisor of a lab; `anchor`: the process that holds the hypervisor's namespaces."""
    try:
        pid = int(Path(f"/proc/{anchor}/root{directory(namespace)}/{_PID}").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    return [word.decode(errors="replace") for word in words if word] == list(_command(namespace))
