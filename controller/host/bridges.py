"""A host's OVS bridges: br-int and br-tun, the patch between them, and one tunnel port per remote host."""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from controller.host.devices import MARK, Bridge, OvsPort
from controller.model import names
from controller.model.topology import Host, Topology

DEFAULT_PORTS = {"vxlan": 4789, "geneve": 6081}

# Bytes that a tunnel adds around a tenant's IP packet: outer IP, outer transport, tunnel header, inner Ethernet.
# GRE is counted with its key (RFC 2890), which carries the tunnel id.
_OVERHEAD = {"vxlan": 8 + 8 + 14, "geneve": 8 + 8 + 14, "gre": 8 + 14}


def tunnel_overhead(topology: Topology) -> int:
    """How much smaller a VM's MTU is than the underlay's, in bytes: 50 for VXLAN over IPv4."""
    outer = 40 if topology.underlay.cidr.version == 6 else 20
    return outer + _OVERHEAD[topology.tunnel.type]


def bridges(host: Host, datapath: str, controller: str) -> tuple[Bridge, ...]:
    """br-int and br-tun with the datapath ids by which the daemon knows them."""
    return tuple(Bridge(name, datapath, host.datapath_ids[name], controller) for name in names.BRIDGES)


def ports(topology: Topology, host: Host) -> Iterator[OvsPort]:
    """The patch pair, and a tunnel to every other host in the order of the file."""
    mark = ((MARK, topology.cloud),)
    yield OvsPort(names.PATCH_TUN, "br-int", "patch", (("peer", names.PATCH_INT),), mark)
    yield OvsPort(names.PATCH_INT, "br-tun", "patch", (("peer", names.PATCH_TUN),), mark)
    for remote in topology.hosts.values():
        if remote.name != host.name:
            yield _tunnel(topology, host, remote)


def _tunnel(topology: Topology, host: Host, remote: Host) -> OvsPort:
    """Tunnel ids are set and matched by flows (`key=flow`), so one port serves every network."""
    kind = topology.tunnel.type
    options = [("key", "flow"), ("local_ip", str(host.tunnel_ip)), ("remote_ip", str(remote.tunnel_ip))]
    port = topology.tunnel.port
    if kind in DEFAULT_PORTS and port not in (None, DEFAULT_PORTS[kind]):
        options.append(("dst_port", str(port)))
    if kind == "gre" and isinstance(remote.tunnel_ip, IPv6Address):
        # OVS's own type for GRE over IPv6; without packet_type it would carry IP packets instead of frames.
        kind, options = "ip6gre", [*options, ("packet_type", "legacy_l2")]
    name = names.tunnel_device(topology.tunnel.type, str(remote.tunnel_ip))
    return OvsPort(name, "br-tun", kind, tuple(options), ((MARK, topology.cloud),))
