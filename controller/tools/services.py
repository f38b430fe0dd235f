"""What is traced: a ping, or the first packet for a TCP or UDP port, and its answer."""
from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from controller.model.topology import Address
from controller.tools.arrivals import ECHO_REPLY, ECHO_REPLY6, ICMP_TYPE
from controller.tools.frames import ACK, SYN, TCP_FLAGS, echo_reply
from flows import fields as f
from flows import packet as packets
from flows.packet import Packet

End = tuple[str, Address | str]  # MAC and IP address
_FROM: Final = 40000  # the port that a client has, as it were by chance
_NAMES: Final = {f.TCP: "tcp", f.UDP: "udp"}


@dataclass(frozen=True)
class Service:
    """What is asked of whoever has an address: an echo, or a port."""

    protocol: int = f.ICMP  # ICMP, of either version; TCP; UDP
    port: int | None = None

    @property
    def words(self) -> str:
        """`ping`, `tcp 80`."""
        return "ping" if self.port is None else f"{_NAMES[self.protocol]} {self.port}"

    def request(self, src: End, dst: End) -> Packet:
        """The first packet."""
        if self.port is None:
            return packets.icmp_echo(src, dst)
        if self.protocol == f.UDP:
            return packets.udp(src, dst, (_FROM, self.port))
        return packets.tcp(src, dst, (_FROM, self.port)).with_(**{TCP_FLAGS: SYN})

    def reply(self, src: End, dst: End, asked: Packet) -> Packet:
        """The answer to the first packet as it came."""
        if self.port is None and ip_address(str(src[1])).version == 6:
            return packets.icmp_echo(src, dst).with_(**{f.ICMPV6_TYPE.name: ECHO_REPLY6})
        if self.port is None:
            return echo_reply((src[0], str(src[1])), (dst[0], str(dst[1])))
        name = _NAMES[self.protocol]
        ports = (asked.get(f"{name}_dst") or 0, asked.get(f"{name}_src") or 0)
        if self.protocol == f.UDP:
            return packets.udp(src, dst, ports)
        return packets.tcp(src, dst, ports).with_(**{TCP_FLAGS: SYN | ACK})

    def is_reply(self, packet: Packet) -> bool:
        """Whether a packet that came back to the asker is the answer."""
        if self.port is None:
            return packet.get(ICMP_TYPE) == ECHO_REPLY or packet.get(f.ICMPV6_TYPE) == ECHO_REPLY6
        return packet.get(f"{_NAMES[self.protocol]}_src") == self.port

    def asks(self, who: str, address: Address) -> str:
        """What somebody does, for people."""
        if self.port is None:
            return f"{who} pings {address}"
        if self.protocol == f.UDP:
            return f"{who} sends to UDP port {self.port} of {address}"
        return f"{who} opens TCP port {self.port} of {address}"


PING: Final = Service()
