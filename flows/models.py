"""What stencils are made with: a host, ports and numbers such as no flow has by itself."""
from __future__ import annotations

from typing import Final

from flows.host import Filter, Host, Identity, Port, Prefix, Tunnels

VLANS: Final = (4094, 4093)
OFPORTS: Final = (0xF1E2D3C4, 0xE7D6C5B4)
OTHER_OFPORTS: Final = (0xA9B8C7D6, 0x9D8C7B6A)
TUNNEL_IDS: Final = (0xF2E3D4, 0xC1B2A3)
MACS: Final = ("f2:9b:5d:c1:7e:43", "e6:47:b1:3a:d8:0f")
FILTERS: Final = (Filter(0xA1B2C3D4, 0x9F8E7D6C), Filter(0x8A9BACBD, 0x7C6D5E4F))


def bare(firewall: str = "none", tunnel_type: str = "", patch_tun: int | None = None) -> Host:
    """A host with nothing on it."""
    return Host("", patch_tun, None, tunnel_type, Tunnels(), (), l2population=False, arp_responder=False,
                mac_aging_time=0, firewall=firewall)


def port(which: int, *addresses: Prefix, filtered: bool) -> Port:
    """One of two, with these addresses of its own."""
    return Port("", "", OFPORTS[which], MACS[which], (Identity(MACS[which], addresses),),
                FILTERS[which] if filtered else None)
