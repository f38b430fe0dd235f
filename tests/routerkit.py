"""A router, hosts around it, and the frames that they send: for the tests of the routed hop."""
from __future__ import annotations

import random
import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from flows.fields import ARP_REQUEST, UDP
from flows.packet import ICMP, TCP
from flows.qrouter import Outcome, Sent, State, due, receive, tick
from flows.router import FloatingIp, Gateway, Leg, Limits, Route, Router
from flows.routing.transport import ACK, ECHO_REPLY, ECHO_REQUEST, FIN, RST, SYN, icmp
from flows.routing.wireformat import BROADCAST_MAC, NO_MAC, Arp, Datagram, Frame, patched, summed

UNLIMITED = Limits(interval=0, per_second=0)
A, B, G = "qr-a", "qr-b", "qg-g"
MACS = {A: "fa:16:3e:00:00:0a", B: "fa:16:3e:00:00:0b", G: "fa:16:3e:00:00:0c"}
SUBNETS = {A: "10.0.1.0/24", B: "10.0.2.0/24", G: "203.0.113.0/24"}
OWN = {A: "10.0.1.1", B: "10.0.2.1", G: "203.0.113.10"}
GATEWAY, FAR = "203.0.113.1", "198.18.0.7"
FIXED = {"203.0.113.50": "10.0.1.11", "203.0.113.51": "10.0.2.11"}
_SUM_PLACE = {TCP: 16, UDP: 6}
OPTIONS = (
    b"\x01\x01\x01\x00", b"\x07\x07\x04\0\0\0\0\0", b"\x83\x07\x04\1\2\3\4\0", b"\x94\x04\0\0",
    b"\x44\x09\1\1", b"\x07\x02\1\1", b"\x88\x04\1\2", b"\x07\x07\x06\0\0\0\0\0", b"\0\1\2\3",
)


def number(address: str) -> int:
    return int(IPv4Address(address))


def router(*, mtus: tuple[int, int, int] = (1500, 1500, 1500), outside: bool = True, snat: bool = True,
           limits: Limits = UNLIMITED) -> Router:
    names = (A, B, G) if outside else (A, B)
    legs = tuple(Leg(name, MACS[name], (IPv4Interface(f"{OWN[name]}/24"),), mtu)
                 for name, mtu in zip(names, mtus, strict=False))
    floating = tuple(FloatingIp(IPv4Address(one), IPv4Address(two)) for one, two in FIXED.items()) if outside else ()
    return Router("r1", legs, Gateway(G, IPv4Address(GATEWAY), snat) if outside else None,
                  (Route(IPv4Network("198.51.100.0/24"), IPv4Address("10.0.1.50")),), floating, limits)


def mac_of(address: int | str) -> bytes:
    """Every host has one MAC, made of its address."""
    return b"\x02\x00" + (number(address) if isinstance(address, str) else address).to_bytes(4, "big")


def own_mac(leg: str) -> bytes:
    return bytes.fromhex(MACS[leg].replace(":", ""))


def udp_to(src: str, dst: str, ports: tuple[int, int] = (4000, 53), data: bytes = b"data", **more: int) -> Datagram:
    body = struct.pack("!HHHH", *ports, 8 + len(data), 0) + data
    return summed(Datagram(number(src), number(dst), UDP, body, **more), 6)


def tcp_to(src: str, dst: str, ports: tuple[int, int], flags: int = SYN, data: bytes = b"", **more: int) -> Datagram:
    body = struct.pack("!HHIIBBHHH", *ports, 1000, 2000 if flags & ACK else 0, 0x50, flags, 8192, 0, 0) + data
    return summed(Datagram(number(src), number(dst), TCP, body, **more), 16)


def ping(src: str, dst: str, ident: int = 77, data: bytes = b"ping", kind: int = ECHO_REQUEST, **more: int) -> Datagram:
    return Datagram(number(src), number(dst), ICMP, icmp(kind, 0, ident << 16 | 1, data), **more)


def framed(leg: str, datagram: Datagram, via: str | None = None) -> bytes:
    """The packet on its way to the router by a leg, from the MAC of its sender (or of who passed it on)."""
    return datagram.framed(mac_of(via or datagram.src), own_mac(leg))


def who_has(src: str, dst: str, mac: bytes | None = None) -> bytes:
    sender = mac_of(src) if mac is None else mac
    return Arp(ARP_REQUEST, sender, number(src), NO_MAC, number(dst)).framed(sender, BROADCAST_MAC)


def is_at(leg: str, question: Arp, mac: bytes | None = None) -> bytes:
    """The answer of a host to the router's question."""
    own = mac or mac_of(question.target)
    return Arp(2, own, question.target, question.sender_mac, question.sender).framed(own, own_mac(leg))


def read(sent: Sent) -> Datagram:
    return Datagram.parse(Frame.parse(sent.frame).payload)


def arp_in(data: bytes) -> Arp | None:
    frame = Frame.parse(data)
    return Arp.parse(frame.payload) if frame.kind == 0x0806 else None


class World:
    """A simulated router and hosts that answer ARP: for stories."""

    def __init__(self, made: Router | None = None) -> None:
        self.router = made or router()
        self.state = State()
        self.now = 1000.0
        self.deaf: set[int] = set()  # hosts that answer no ARP

    def give(self, leg: str, frame: bytes) -> Outcome:
        outcome, self.state = receive(self.router, self.state, leg, frame, self.now)
        return outcome

    def send(self, leg: str, frame: bytes) -> list[Sent]:
        """A frame, and everything that leaves because of it; hosts answer the router's ARP."""
        left, pending = [], list(self.give(leg, frame).sent)
        while pending:
            sent = pending.pop(0)
            question = arp_in(sent.frame)
            if question is None or question.op != ARP_REQUEST:
                left.append(sent)
            elif question.target not in self.deaf:
                pending += self.give(sent.leg, is_at(sent.leg, question)).sent
        return left

    def wait(self, seconds: float) -> list[Sent]:
        """Time passes; everything that leaves because of it."""
        end, left = self.now + seconds, []
        while (timer := due(self.state)) <= end:
            self.now = max(timer, self.now)
            sent, self.state = tick(self.router, self.state, self.now)
            left += sent
        self.now = end
        sent, self.state = tick(self.router, self.state, self.now)
        return [*left, *sent]


_STRANGERS = 200


class Traffic:
    """Random frames, good and bad, and answers to what came out of the router before."""

    def __init__(self, rng: random.Random, made: Router, *, crowded: bool = True) -> None:
        """`crowded`: hosts choose from few ports and ids, so that their conversations are often alike outside."""
        self._rng = rng
        self._ports = range(4000, 4006) if crowded else range(4000, 65000)
        self._ids = range(1, 9) if crowded else range(1, 0xF000)
        self._router = made
        self._seen: list[Sent] = []  # what hosts could answer
        self._ident = 0x8000
        self._waiting: list[tuple[str, bytes]] = []
        self._stranger = 0

    def saw(self, sent: Sent) -> None:
        """Something left the router: a host may answer it."""
        self._seen = [*self._seen[-40:], sent]

    def next(self) -> tuple[str, bytes]:
        """(leg, frame)."""
        if self._waiting:
            return self._waiting.pop(self._rng.randrange(len(self._waiting)) if self._rng.random() < 0.3 else 0)
        makers = [self._arp, self._oddity] + [self._packet] * 8 + ([self._answer] * 8 if self._seen else [])
        return self._rng.choice(makers)()

    def _leg(self) -> str:
        return self._rng.choice([leg.name for leg in self._router.legs])

    def _host(self, leg: str) -> str:
        if leg == G:
            return self._rng.choice([GATEWAY, "203.0.113.77", FAR, "8.8.8.8"])
        return self._rng.choice([SUBNETS[leg].replace("0/24", str(last)) for last in (11, 12, 50)])

    def _anywhere(self) -> str:
        own = list(OWN.values()) if self._router.outside else [OWN[A], OWN[B]]
        inside = [self._host(A), self._host(B)]
        strange = ["10.0.2.255", "224.0.0.5", "127.0.0.1", "255.255.255.255", "0.0.0.0", "198.51.100.9", "10.0.1.0"]
        pool = [inside, inside, inside, own, own, ["198.51.100.9"], strange]
        if self._router.outside:
            pool += [[self._host(G)], [self._host(G)], list(FIXED), list(FIXED), ["240.0.0.1"]]
        else:
            pool += [["192.0.2.77"]] if self._stranger < _STRANGERS else []
        return self._rng.choice(self._rng.choice(pool))

    def _source(self, leg: str, dst: str) -> str:
        if not self._router.outside and dst == "192.0.2.77":
            self._stranger += 1  # Linux paces "no route" per source, and that pace has no switch in a namespace
            return str(IPv4Address(number("198.51.100.20") + self._stranger))
        if self._rng.random() < 0.04:
            return self._rng.choice(["127.0.0.1", "224.0.0.9", "255.255.255.255", "0.0.0.0", OWN[A], OWN[B],
                                     "10.0.2.255", "10.0.1.12", "10.0.2.12"])
        return self._host(leg)

    def _arp(self) -> tuple[str, bytes]:
        leg = self._leg()
        stranger = SUBNETS[leg].replace("0/24", str(self._rng.randrange(200, 240)))
        src = self._rng.choice([stranger, stranger, "0.0.0.0", OWN[A], "10.9.9.9"])
        arp = Arp(self._rng.choice([1, 1, 1, 2, 3]), mac_of(src), number(src), self._rng.choice([NO_MAC, own_mac(leg)]),
                  number(self._rng.choice([*OWN.values(), OWN[leg], OWN[leg], *FIXED, src, "224.0.0.1"])))
        frame = arp.framed(mac_of(src), self._rng.choice([BROADCAST_MAC, own_mac(leg)]))
        return leg, frame[:self._rng.choice([len(frame)] * 9 + [30])] + bytes(self._rng.choice([0, 18]))

    def _packet(self) -> tuple[str, bytes]:
        leg, dst = self._leg(), self._anywhere()
        src = self._source(leg, dst)
        data = self._rng.randbytes(self._rng.choice([0, 1, 8, 33, 100, 600, 1372, 1400, 1472]))
        kind = self._rng.random()
        if kind < 0.3:
            made = ping(src, dst, self._rng.choice(self._ids), data)
        elif kind < 0.6:
            made = udp_to(src, dst, (self._rng.choice(self._ports), self._rng.choice([53, 123])), data)
        elif kind < 0.9:
            flags = self._rng.choice([SYN, SYN, SYN, ACK, 0x12, 0x11, 0x04, 0x00, 0x29])
            made = tcp_to(src, dst, (self._rng.randrange(5000, 65000), 80), flags, data[:1300])
        else:
            made = Datagram(number(src), number(dst), 253, data)
        return self._decorated(leg, made)

    def _oddity(self) -> tuple[str, bytes]:
        """Rare things: protocols, lengths and addresses that few hosts send."""
        rng, leg, dst = self._rng, self._leg(), self._anywhere()
        src, data = self._source(leg, dst), self._rng.randbytes(self._rng.choice([0, 4, 28, 90]))
        odd, query = (4444, 9) if len(self._ids) < 9 else (rng.choice(self._ports), rng.choice(self._ids))
        udp = udp_to(src, dst, (odd, 53), data)
        tcp = tcp_to(src, dst, (rng.randrange(5000, 65000), 80), SYN, b"\1" * len(data))
        made = rng.choice([
            Datagram(number(src), number(dst), ICMP, icmp(rng.choice([5, 9, 10, 15, 17, 30, 42, 255]), 0, 0, data)),
            Datagram(number(src), number(dst), ICMP, icmp(ECHO_REQUEST, rng.choice([0, 3]), query << 16 | 9, data)),
            Datagram(number(src), number(dst), ICMP, data),
            Datagram(number(src), number(dst), UDP, data),
            Datagram(number(src), number(dst), TCP, data),
            replace(udp, payload=patched(udp.payload, 6, 0)),
            summed(replace(udp, payload=patched(udp.payload, 4, rng.choice([0, 7, 8, 400]))), 6),
            summed(replace(tcp, payload=patched(tcp.payload, 12, rng.choice([0x40, 0xF0, 0x60]), 1)), 16),
        ])
        leg, frame = leg, replace(made, ident=0x8000 + rng.randrange(0x8000), ttl=rng.choice([0, 1, 2, 64])).framed(
            mac_of(made.src), rng.choice([own_mac(leg)] * 3 + [BROADCAST_MAC, bytes.fromhex("01005e000001")]))
        return leg, patched(frame, 12, rng.choice([0x0800] * 20 + [0x86DD, 0x8100, 0x88CC]))

    def _answer(self) -> tuple[str, bytes]:
        sent = self._rng.choice(self._seen)
        seen = read(sent)
        if seen.offset or seen.more or not seen.payload:
            return self._packet()
        if self._rng.random() < 0.2:
            return self._decorated(sent.leg, self._error_about(seen), plain=True)
        body = seen.payload
        if seen.proto == ICMP:
            if body[0] != ECHO_REQUEST or len(body) < 8:
                return self._packet()
            made = Datagram(seen.dst, seen.src, ICMP, icmp(ECHO_REPLY, 0, int.from_bytes(body[4:8], "big"), body[8:]))
        elif seen.proto in (TCP, UDP) and len(body) >= (20 if seen.proto == TCP else 8):
            made = self._turned(seen)
        else:
            made = replace(seen, src=seen.dst, dst=seen.src)
        return self._decorated(sent.leg, replace(made, ttl=64, dont_fragment=False, options=b""))

    def _turned(self, seen: Datagram) -> Datagram:
        body = seen.payload[2:4] + seen.payload[:2] + seen.payload[4:]
        if seen.proto == TCP:
            flags = seen.payload[13]
            answers = (SYN | ACK, SYN | ACK, RST | ACK) if flags == SYN else (ACK, ACK, FIN | ACK)
            body = patched(body, 13, self._rng.choice(answers), 1)
        return summed(replace(seen, src=seen.dst, dst=seen.src, payload=body), _SUM_PLACE[seen.proto])

    def _error_about(self, seen: Datagram) -> Datagram:
        kind, code, rest = self._rng.choice([(3, 3, 0), (3, 1, 0), (11, 0, 0), (3, 4, 1400), (12, 0, 20 << 24)])
        quote = seen.to_bytes()[:self._rng.choice([seen.head + 8, 548, seen.head + 4])]
        src = self._rng.choice([seen.dst, seen.dst, number("198.18.9.9")])
        return Datagram(src, seen.src, ICMP, icmp(kind, code, rest, quote))

    def _decorated(self, leg: str, made: Datagram, *, plain: bool = False) -> tuple[str, bytes]:
        rng = self._rng
        self._ident = 0x8000 + (self._ident + 1) % 0x8000
        made = replace(made, ident=self._ident, tos=rng.choice([0, 0, 0x10, 0xB8]),
                       ttl=rng.choice([64, 64, 64, 64, 2, 1, 255]), dont_fragment=rng.random() < 0.4)
        if plain:
            made = replace(made, ttl=64)
        elif rng.random() < 0.05:
            made = replace(made, options=rng.choice(OPTIONS))
        elif rng.random() < 0.06 and len(made.payload) > 20:
            made = replace(made, payload=made.payload[:-1] + bytes([made.payload[-1] ^ 0x55]))  # a wrong checksum
        mtu = self._router.by_name[leg].mtu
        frame = made.framed(mac_of(made.src), own_mac(leg))
        if made.size > mtu or (not plain and rng.random() < 0.08 and len(made.payload) > 64):
            return self._pieces(leg, made, min(mtu, rng.choice([mtu, 576, 300])))
        return leg, self._spoiled(leg, frame, plain=plain)

    def _pieces(self, leg: str, made: Datagram, mtu: int) -> tuple[str, bytes]:
        room = (mtu - made.head) // 8 * 8
        starts = range(0, len(made.payload), room)
        pieces = [replace(made, payload=made.payload[at:at + room], offset=at, more=at + room < len(made.payload))
                  for at in starts]
        if self._rng.random() < 0.3:
            self._rng.shuffle(pieces)
        if self._rng.random() < 0.1:
            pieces.append(self._rng.choice(pieces))
        if self._rng.random() < 0.1:
            pieces.pop()
        self._waiting += [(leg, piece.framed(mac_of(piece.src), own_mac(leg))) for piece in pieces]
        return self._waiting.pop(0) if self._waiting else self._packet()

    def _spoiled(self, leg: str, frame: bytes, *, plain: bool) -> bytes:
        chance = 1.0 if plain else self._rng.random()
        if chance < 0.02:
            return patched(frame, 24, int.from_bytes(frame[24:26], "big") ^ 0x0101)  # checksum of the IPv4 header
        if chance < 0.03:
            return b"\x02\x99" + frame[2:]
        if chance < 0.05:
            return BROADCAST_MAC + frame[6:]
        if chance < 0.06:
            return frame[:self._rng.randrange(15, len(frame))]
        if chance < 0.1:
            return frame + bytes(max(0, 60 - len(frame)))
        return frame
