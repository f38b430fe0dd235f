"""Laws of the routed hop, on random packets; the seed is printed by the run."""
from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address

from routerkit import FAR, A, B, G, Traffic, World, framed, own_mac, ping, read, router, tcp_to, udp_to

from flows.fields import IPV4
from flows.packet import ICMP
from flows.qrouter import Forwarded, State, receive
from flows.routing.transport import ECHO_REPLY, sound, way_of
from flows.routing.wireformat import Datagram, Frame, checksum, updated


def parsed(frame: bytes) -> Datagram:
    return Datagram.parse(Frame.parse(frame).payload)


def inside_packet(rng: random.Random) -> Datagram:
    """From one inside network to the other: nothing is translated."""
    src, dst = f"10.0.1.{rng.randrange(2, 250)}", f"10.0.2.{rng.randrange(2, 250)}"
    data = rng.randbytes(rng.randrange(0, 1400))
    made = rng.choice([udp_to(src, dst, (rng.randrange(1, 65536), 9), data), ping(src, dst, rng.randrange(9), data),
                       tcp_to(src, dst, (rng.randrange(1, 65536), 9), data=data)])
    return replace(made, ttl=rng.randrange(2, 256), tos=rng.randrange(256), ident=rng.randrange(65536))


def test_forwarding_keeps_everything_but_the_ttl_and_the_macs(seed: int) -> None:
    rng, world = random.Random(seed), World()
    for _ in range(500):
        packet = inside_packet(rng)
        (sent,) = world.send(A, framed(A, packet))
        assert sent.leg == B
        left = read(sent)
        assert left == replace(packet, ttl=packet.ttl - 1)
        assert sound(left)


def test_fragments_together_are_the_packet(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        mtu = rng.randrange(68, 1500)
        world, packet = World(router(mtus=(1500, mtu, 1500))), inside_packet(rng)
        pieces = sorted((read(sent) for sent in world.send(A, framed(A, packet))), key=lambda piece: piece.offset)
        assert max(piece.size for piece in pieces) <= mtu
        assert b"".join(piece.payload for piece in pieces) == packet.payload
        assert [piece.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]


def test_translation_is_one_to_one_and_answers_find_their_way_back(seed: int) -> None:
    rng, world = random.Random(seed), World()
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    for _ in range(1000):
        src = f"10.0.{rng.choice([1, 2])}.{rng.randrange(2, 20)}"
        port, target = rng.randrange(4000, 4020), rng.choice([FAR, "8.8.8.8"])
        packet = rng.choice([udp_to(src, target, (port, 53)), tcp_to(src, target, (port, 80)), ping(src, target, port)])
        leg = A if src.startswith("10.0.1.") else B
        (sent,) = world.send(leg, framed(leg, packet))
        before, after = way_of(packet), way_of(read(sent))
        assert before is not None
        assert after is not None
        assert seen.setdefault(after, before) == before
        assert back_home(world, read(sent)) == (packet.src, port)
    assert len(set(seen.values())) == len(seen) == len(world.state.connections)


def back_home(world: World, out: Datagram) -> tuple[int, int]:
    """Where the answer to a packet ends up: address and port (or ICMP id)."""
    way = way_of(out)
    assert way is not None
    far, own = str(IPv4Address(way.dst)), str(IPv4Address(way.src))
    if out.proto == ICMP:
        answer = ping(far, own, way.src_port, kind=ECHO_REPLY)
    elif out.proto == 17:
        answer = udp_to(far, own, (way.dst_port, way.src_port))
    else:
        answer = tcp_to(far, own, (way.dst_port, way.src_port), 0x12)
    (sent,) = world.send(G, framed(G, answer))
    inside = read(sent)
    assert sound(inside)
    found = way_of(inside)
    assert found is not None
    return inside.dst, found.src_port if out.proto == ICMP else found.dst_port


def test_whatever_comes_the_router_answers_without_error_and_stays_a_function(seed: int) -> None:
    made = router()
    traffic, rng, state = Traffic(random.Random(seed), made), random.Random(seed), State()
    for step in range(3000):
        leg, frame = traffic.next()
        if rng.random() < 0.2:
            place = rng.randrange(len(frame))
            frame = frame[:place] + rng.randbytes(1) + frame[place + 1:]
        outcome, after = receive(made, state, leg, frame, step / 100)
        assert step % 50 or (outcome, after) == receive(made, state, leg, frame, step / 100)
        for sent in outcome.sent:
            if Frame.parse(sent.frame).kind == IPV4:
                assert parsed(sent.frame).ttl > 0
                assert Frame.parse(sent.frame).src == own_mac(sent.leg)
        if isinstance(outcome, Forwarded) and outcome.sent and Frame.parse(outcome.sent[0].frame).kind == IPV4:
            traffic.saw(outcome.sent[0])
        state = after


def test_an_updated_checksum_is_the_one_computed_anew(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        data = bytearray(rng.randbytes(40))
        old, place, new = checksum(bytes(data)), 2 * rng.randrange(18), rng.randbytes(4)
        before = bytes(data[place:place + 4])
        data[place:place + 4] = new
        assert updated(old, before, new) == checksum(bytes(data))


def test_a_checksum_over_itself_is_zero(seed: int) -> None:
    rng = random.Random(seed)
    for length in range(2, 200):
        data = rng.randbytes(length * 2)
        assert checksum(data + checksum(data).to_bytes(2, "big")) == 0
