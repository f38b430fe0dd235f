"""A lab VM's own DHCP client: busybox's, one for each card whose address comes from DHCP.

It asks every second until it is answered, so that it does not matter whether the server, the wire or the flows come
first. What it learns is done by mininet/udhcpc.py, inside the VM.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from controller.host.steps import Step
from controller.model.topology import Port

ROOM: Final = "/run/tunbridge-vm"  # of each VM its own
SCRIPT: Final = Path(__file__).resolve().parents[2] / "mininet" / "udhcpc.py"
_PATIENCE: Final = "5"  # seconds for it to end
# Classless routes (RFC 3442) by both their numbers, and the MTU, which it does not ask for by itself.
_OPTIONS: Final = ("-O", "staticroutes", "-O", "msstaticroutes", "-O", "mtu")
_EVERY_SECOND: Final = ("-t", "3", "-T", "1", "-A", "1")


def asks(port: Port) -> bool:
    """Whether a VM's card is set up by a client of its own; busybox has none for IPv6, so there the lab does it."""
    return port.dhcp and port.ip.version == 4


def room() -> Iterator[Step]:
    """Where a VM keeps what its clients write: it shares the machine's files, but its name servers are its own."""
    why = "what DHCP says of name servers is this VM's alone"
    yield Step(("mkdir", "-p", ROOM), why)
    yield Step(("mount", "-t", "tmpfs", "-o", "mode=755,size=1m", "tunbridge", ROOM), why)
    yield Step(("install", "-m", "644", "/dev/null", f"{ROOM}/resolv.conf"), why)
    yield Step(("mount", "--bind", f"{ROOM}/resolv.conf", "/etc/resolv.conf"), why, tolerant=True)


def start(interface: str) -> Iterator[Step]:
    """Start a card's client; it goes on as long as the VM."""
    yield Step(("busybox", "udhcpc", "-f", "-i", interface, "-p", _pid(interface), "-s", str(SCRIPT), *_EVERY_SECOND,
                *_OPTIONS), f"the VM asks for the address of {interface}", background=True)


def end(interface: str) -> Iterator[Step]:
    """End a card's client, and wait until it is gone; what it has set stays."""
    it = ("-F", _pid(interface), "-x", "busybox")
    yield Step(("pkill", "-TERM", *it), f"nobody asks for the address of {interface} any more", tolerant=True)
    yield Step(("timeout", _PATIENCE, "pidwait", *it), "wait until the client is gone", tolerant=True)
    yield Step(("pkill", "-KILL", *it), "if it has not ended by itself", tolerant=True)


def runs(interface: str, anchor: int) -> bool:
    """Whether a card's client does; `anchor`: the process that holds the VM's namespaces."""
    try:
        pid = int(Path(f"/proc/{anchor}/root{_pid(interface)}").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    return words[:2] == [b"busybox", b"udhcpc"] and interface.encode() in words


def _pid(interface: str) -> str:
    return f"{ROOM}/udhcpc.{interface}.pid"
