"""Has anybody changed the packet filter of a namespace since? Its generation is a number that every change moves on.

Kernel interface: linux/netfilter/nf_tables.h, NFT_MSG_GETGEN; iptables-nft writes by the same transactions.
"""
from __future__ import annotations

import socket
import struct
from typing import Final

from controller.host import netns
from controller.host.sweep import attributes, messages

_NETLINK_NETFILTER: Final = 12
_GET, _NEW = 10 << 8 | 16, 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES and the message's own number
_REQUEST: Final = 0x1
_ID: Final = 1  # NFTA_GEN_ID


def of(pid: int) -> int | None:
    """The generation of the packet filter where a process is; None if its kernel has no such number."""
    try:
        with netns.inside(netns.of_process(pid)):
            asked = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        with asked:
            # struct nlmsghdr, then struct nfgenmsg.
            asked.send(struct.pack("=IHHIIBBH", 20, _GET, _REQUEST, 0, 0, socket.AF_UNSPEC, 0, 0))
            for kind, message in messages(asked.recv(4096)):
                if kind == _NEW:
                    return int.from_bytes(dict(attributes(message[4:]))[_ID], "big")
    except (OSError, netns.NamespaceError, KeyError):
        return None
    return None
