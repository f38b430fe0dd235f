"""What a machine must have for a lab or for routers, and the cure if it does not."""
from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from controller.host import clients, routers
from controller.model.topology import Topology
from controller.tools.errors import MISSING, Refusal
from controller.tools.nodes import search_path

PYTHON: Final = "/usr/bin/python3"  # Debian's mininet is there for the system's Python only
OBEYS: Final = Path(__file__).resolve().parents[2] / "mininet" / "lab.py"
PACKAGES: Final = {"ovs-vswitchd": "openvswitch-switch", "ovsdb-server": "openvswitch-switch",
                   "ovs-vsctl": "openvswitch-switch", "ovsdb-tool": "openvswitch-common", "ip": "iproute2",
                   "ethtool": "ethtool", "sysctl": "procps", "mnexec": "mininet", PYTHON: "python3"}
FOR_NAMESPACES: Final = {"ip": "iproute2", "iptables-restore": "iptables", "iptables-save": "iptables"}
FOR_RULES: Final = dict.fromkeys(("iptables-restore", "iptables-save", "ip6tables-restore", "ip6tables-save"),
                                 "iptables")
FOR_GROUPS: Final = {"ipset": "ipset"}
FOR_DHCP: Final = {"dnsmasq": "dnsmasq-base", "ip": "iproute2", "pkill": "procps", "pidwait": "procps",
                   "iptables-restore": "iptables", "setpriv": "util-linux", "install": "coreutils"}
FOR_CLIENTS: Final = {"busybox": "busybox", "pkill": "procps", "pidwait": "procps"}
_BRIDGED: Final = Path("/proc/sys/net/bridge")  # there when frames on a Linux bridge can pass iptables
# In a namespace of its own: what it makes goes with it.
_TRIAL: Final = ("unshare", "--net", "iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "SNAT", "--to-source",
                 "192.0.2.1")
_BPF_TRIAL: Final = ("unshare", "--net", "iptables", "-A", "INPUT", "-m", "bpf", "--bytecode", "1,6 0 0 0", "-j",
                     "DROP")


def check(topology: Topology | None = None) -> None:
    """Refusal with the cure if this machine lacks what a lab needs, or what the routers of the topology need."""
    if os.geteuid() != 0:
        raise Refusal("A lab makes network namespaces, which needs root; run it with sudo.", MISSING)
    _have(PACKAGES, "The lab")
    if not OBEYS.exists():
        raise Refusal(f"The lab needs {OBEYS}; run tunbridge from its source tree.", MISSING)
    if topology is not None:
        check_routers(topology)
        check_dhcp(topology)
        check_firewall(topology)
        asking = next((port.name for port in topology.ports() if clients.asks(port)), None)
        if asking is not None:
            _have(FOR_CLIENTS, f"The VM port {asking}, whose address comes from DHCP,")


def check_routers(topology: Topology, host: str | None = None) -> None:
    """Refusal if a router of the topology (on that host) is a namespace and this machine cannot have such a router."""
    those = _namespaces(topology, host)
    if not those:
        return
    what = f"The router {those[0]}, whose driver is namespace,"
    _have(FOR_NAMESPACES, what)
    found = {**os.environ, "PATH": search_path()}
    tried = subprocess.run(_TRIAL, env=found, capture_output=True, text=True, check=False)
    if tried.returncode:
        said = tried.stderr.strip().splitlines()
        raise Refusal(f"{what} needs iptables to translate addresses, and this kernel does not let it: "
                      f"{said[0] if said else 'it said nothing'}. `driver: simulated` does without.", MISSING)


def check_dhcp(topology: Topology, host: str | None = None) -> None:
    """Refusal if a network of the topology is served with DHCP (by that host) and this machine has no dnsmasq."""
    served = next((port.network for port in topology.dhcp_by_network.values() if host in (None, port.host)), None)
    if served is not None:
        _have(FOR_DHCP, f"The network {served}, a subnet of which says `dhcp: true`,")


def check_firewall(topology: Topology, host: str | None = None) -> None:
    """Refusal if a VM's port of the topology (on that host) is guarded by iptables and this machine has no iptables."""
    ports = [port for port in topology.ports() if host in (None, port.host)] if topology.has_qbr() else []
    if not ports:
        return
    what = f"The port {ports[0].name}, which iptables guards,"
    _have(FOR_RULES, what)
    if not _BRIDGED.is_dir():
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(("modprobe", "-q", "br_netfilter"), capture_output=True, check=False)
        if not _BRIDGED.is_dir():
            raise Refusal(f"{what} needs the kernel's br_netfilter, and this kernel does not have it. "
                          f"`firewall: openvswitch` does without.", MISSING)
    naming = next((port for port in ports for one in topology.filters.rules(port) if one.members is not None), None)
    if naming is not None:
        _have(FOR_GROUPS, f"The port {naming.name}, whose rules name a group,")


def lacks(topology: Topology, host: str | None = None) -> Iterator[str]:
    """What its routers and its DHCP would be better for, a sentence each."""
    if _namespaces(topology, host) and shutil.which("conntrack", path=search_path()) is None:
        yield ("There is no `conntrack` on this machine, so connections by a floating IP that is taken away end by "
               "their own timeouts only; `apt-get install conntrack` cures it.")
    if any(host in (None, port.host) for port in topology.dhcp_by_network.values()) and not _has_bpf_match():
        yield ("This kernel has no `bpf` match for iptables (the module xt_bpf), so a VM can give back the lease of "
               "another on its network; a kernel with xt_bpf cures it.")


def _has_bpf_match() -> bool:
    tried = subprocess.run(_BPF_TRIAL, env={**os.environ, "PATH": search_path()}, capture_output=True, check=False)
    return tried.returncode == 0


def _namespaces(topology: Topology, host: str | None) -> list[str]:
    return [router.name for router in topology.routers.values() if router.driver == routers.NAMESPACE
            and router.name in topology.legs_by_router and host in (None, router.host)]


def _have(packages: Mapping[str, str], what: str) -> None:
    missing = sorted({package for program, package in packages.items()
                      if not shutil.which(program, path=search_path())})
    if missing:
        raise Refusal(f"{what} needs a package; `apt-get install {' '.join(missing)}` installs it.", MISSING)
