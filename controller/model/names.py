"""Names that nobody has to think of: ids, MAC addresses, device names, datapath ids.

Everything is a function of the cloud's name and the object's path, so that the same file always gives
the same names, on every machine and in every order. Prefixes and lengths are Neutron's.
"""
from __future__ import annotations

from functools import lru_cache
from hashlib import sha1
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from uuid import UUID, uuid5

# The root of all our version-5 ids (RFC 4122, 4.3); itself a version-5 id of the project's name under the DNS tree.
_CLOUDS = UUID("5d4a4f1e-7d2a-5c1b-9a55-6f2f0a8f9b11")

DEVICE_ID_CHARS = 11  # Neutron: prefix of 3 plus 11 characters of the id; IFNAMSIZ leaves room for 15
BRIDGES = ("br-int", "br-tun")

PATCH_TUN = "patch-tun"  # on br-int, leads to br-tun
PATCH_INT = "patch-int"  # on br-tun, leads to br-int
STRANGERS = "strangers"  # on br-tun: where tunnel packets arrive that no tunnel port of a known host takes

QR, QG = "qr-", "qg-"  # a router's legs: on a tenant's subnet, and to the outside
TAP: Final = "tap"  # a VM's port, and that of a DHCP server
EXTERNAL: Final = "external"  # the physical network of an external network that names none
_DEVICE_CHARS: Final = 15  # IFNAMSIZ without its final zero
_HASH_CHARS: Final = 6  # Neutron's INTERFACE_HASH_LEN


def object_id(cloud: str, path: str) -> UUID:
    """The id of an object without one: version 5 (RFC 4122) of the cloud's name and a path like `vms/web1/ports/0`."""
    return uuid5(_root(cloud), path)


@lru_cache(maxsize=8)
def _root(cloud: str) -> UUID:
    return uuid5(_CLOUDS, cloud)


def mac_of(port_id: UUID) -> str:
    """Neutron's base MAC `fa:16:3e` plus the last three bytes of the port's id."""
    return ":".join(["fa", "16", "3e", *(f"{byte:02x}" for byte in port_id.bytes[13:])])


def device(prefix: str, object_id_: UUID) -> str:
    """A device name as Neutron makes it: `qvo` + the first 11 characters of the id."""
    return prefix + str(object_id_)[:DEVICE_ID_CHARS]


def qrouter(router_id: UUID) -> str:
    """The network namespace of a router."""
    return f"qrouter-{router_id}"


def qdhcp(network_id: UUID) -> str:
    """The network namespace of a network's DHCP server."""
    return f"qdhcp-{network_id}"


def provider_bridge(physical_network: str) -> str:
    """The bridge to a physical network, unless the host's `bridge_mappings` names another."""
    return "br-ex" if physical_network == EXTERNAL else f"br-{physical_network}"


def int_device(bridge: str) -> str:
    """The patch port on br-int that leads to a provider bridge: `int-br-ex`."""
    return _prefixed("int-", bridge)


def phy_device(bridge: str) -> str:
    """The patch port on a provider bridge that leads to br-int: `phy-br-ex`."""
    return _prefixed("phy-", bridge)


def _prefixed(prefix: str, name: str) -> str:
    """As Neutron shortens: what does not fit becomes the beginning of the name and of its SHA-1."""
    if len(prefix + name) <= _DEVICE_CHARS:
        return prefix + name
    digest = sha1(name.encode(), usedforsecurity=False).hexdigest()[:_HASH_CHARS]
    return prefix + name[: _DEVICE_CHARS - len(prefix) - _HASH_CHARS] + digest


def datapath_id(cloud: str, host: str, bridge: str) -> int:
    """The 64-bit OpenFlow datapath id of a bridge of a host; never zero."""
    return object_id(cloud, f"hosts/{host}/{bridge}").int >> 64 or 1


def tunnel_device(kind: str, remote_ip: str) -> str:
    """The tunnel port to a remote host: `vxlan-c0000215` is VXLAN to 192.0.2.21.

    An IPv6 remote is named by the 64 bits that differ between hosts of a site, shortened to fit 15 characters.
    """
    address = ip_address(remote_ip)
    room = 15 - len(kind) - 1
    if isinstance(address, IPv4Address):
        return f"{kind}-{int(address):08x}"
    assert isinstance(address, IPv6Address)
    return f"{kind}-{int.from_bytes(object_id('', str(address)).bytes[:8], 'big'):016x}"[: len(kind) + 1 + room]
