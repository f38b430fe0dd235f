"""A host's OVS bridges: br-int, br-tun and those to physical networks, the patches between them, and one tunnel port
per remote host.
"""
from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Final

from controller.host.devices import MARK, Bridge, Limit, OvsPort
from controller.model import names
from controller.model.topology import Host, Topology
from flows.tables import BEHIND, BR_INT, BR_TUN, UNICAST

Options = tuple[tuple[str, str], ...]

DEFAULT_PORTS = {"vxlan": 4789, "geneve": 6081}
_LEARNED: Final = 20000  # MACs that br-tun may have learned at a time
_LEARNED_HERE: Final = 10000  # MACs behind ports without port security


def bridges(topology: Topology, host: Host, datapath: str, controller: str) -> tuple[Bridge, ...]:
    """br-int, br-tun and the provider bridges with the datapath ids by which the daemon knows them."""
    limits = {BR_INT: (Limit(BEHIND.id, _LEARNED_HERE),)}
    if topology.forwarding == "learning":
        limits[BR_TUN] = (Limit(UNICAST.id, _LEARNED),)
    return tuple(Bridge(name, datapath, host.datapath_ids[name], controller, limits=limits.get(name, ()))
                 for name in (*names.BRIDGES, *provider_bridges(host)))


def provider_bridges(host: Host) -> tuple[str, ...]:
    """The bridges to physical networks that this host needs: br-ex and its like."""
    return tuple(dict.fromkeys(host.bridge_mappings.values()))


def ports(topology: Topology, host: Host, datapath: str) -> Iterator[OvsPort]:
    """The patch pairs, a tunnel to every other host in the order of the file, and one end for everybody else."""
    local = () if datapath == "netdev" else (("local_ip", str(host.tunnel_ip)),)  # there, see underlay.userspace
    yield from _patch(topology.cloud, "br-tun", names.PATCH_TUN, names.PATCH_INT)
    for bridge in provider_bridges(host):
        yield from _patch(topology.cloud, bridge, names.int_device(bridge), names.phy_device(bridge))
    for remote in topology.hosts.values():
        if remote.name != host.name:
            yield _tunnel(topology, host, remote, local)
    yield _strangers(topology, host, local)


def _patch(cloud: str, bridge: str, here: str, there: str) -> Iterator[OvsPort]:
    """Both ends between br-int and another bridge. Made with the bridges, which are born secure and without flows:
    nothing passes before the daemon has written what may.
    """
    mark = ((MARK, cloud),)
    yield OvsPort(here, "br-int", "patch", (("peer", there),), mark)
    yield OvsPort(there, bridge, "patch", (("peer", here),), mark)


def uplink(topology: Topology, bridge: str, device: str) -> OvsPort:
    """A network card that leads from a provider bridge to its physical network."""
    return OvsPort(device, bridge, external_ids=((MARK, topology.cloud),))


def _tunnel(topology: Topology, host: Host, remote: Host, local: Options) -> OvsPort:
    """Tunnel ids are set and matched by flows (`key=flow`), so one port serves every network."""
    name = names.tunnel_device(topology.tunnel.type, str(remote.tunnel_ip))
    return _end(topology, host, name, (*local, ("remote_ip", str(remote.tunnel_ip))))


def _strangers(topology: Topology, host: Host, local: Options) -> OvsPort:
    """Where what comes from an address that is no host's is counted, and dropped; Open vSwitch gives a packet to the
    port that names its sender, if there is one.
    """
    return _end(topology, host, names.STRANGERS, (*local, ("remote_ip", "flow")))


def _end(topology: Topology, host: Host, name: str, ends: Options) -> OvsPort:
    kind = topology.tunnel.type
    options = [("key", "flow"), *ends]
    port = topology.tunnel.port
    if kind in DEFAULT_PORTS and port not in (None, DEFAULT_PORTS[kind]):
        options.append(("dst_port", str(port)))
    if kind == "gre" and isinstance(host.tunnel_ip, IPv6Address):
        # OVS's own type for GRE over IPv6; without packet_type it would carry IP packets instead of frames.
        kind, options = "ip6gre", [*options, ("packet_type", "legacy_l2")]
    return OvsPort(name, "br-tun", kind, tuple(options), ((MARK, topology.cloud),))
