"""The compiled hop on a real Open vSwitch, packet by packet: what is routed, translated, answered, dropped and asked."""
from __future__ import annotations

from collections.abc import Iterator

import pytest

from hopkit import OUTSIDE, Hop, hop, learn
from tests.routerkit import number, ping, read, tcp_to, udp_to

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def there() -> Iterator[Hop]:
    with hop() as made:
        for router in ("r1", "r2"):
            learn(made, router=router)
        yield made


def test_between_two_legs_a_packet_changes_macs_and_loses_one_of_its_time_to_live(there: Hop) -> None:
    sent = udp_to("10.0.1.11", "10.0.2.11")
    (seen,) = there.send("web1", sent)
    assert (seen.where, seen.vlan, seen.frame.src, seen.frame.dst) == (
        "db1", None, there.gateway("db1"), there.mac("db1"))
    assert seen.datagram.ttl == sent.ttl - 1 and seen.datagram.payload == sent.payload
