"""Who is elsewhere, in columns: the same as row by row."""
from __future__ import annotations

import os
import pickle
import random
from ipaddress import IPv4Address

from controller.model import placement
from flows.neighbours import Elsewhere, Everybody, Neighbour
from tests.clouds import CASES, golden
from tests.wideclouds import wide

SEED = int(os.environ.get("TUNBRIDGE_SEED", "0")) or random.SystemRandom().getrandbits(32)
MACS = [f"fa:16:3e:00:00:{number:02x}" for number in range(12)]


def some(rng: random.Random) -> list[Neighbour]:
    """With MACs that several wear, pairs, and ports without port security; or without all of that."""
    odd, count = rng.random() < 0.5, rng.randrange(8)
    macs = rng.choices(MACS, k=count) if odd else rng.sample(MACS, count)
    return [Neighbour(f"vm{number}", f"vms.vm{number}", mac, IPv4Address(number), rng.choice("ABC"),
                      not odd or rng.random() < 0.8, (rng.choice(MACS),) if odd and rng.random() < 0.2 else ())
            for number, mac in enumerate(macs)]


def test_those_elsewhere_are_all_but_those_here() -> None:
    rng = random.Random(SEED)
    for _ in range(300):
        rows = some(rng)
        alone = [one for one in rows if one.remote != "A"]
        found = Elsewhere(Everybody.of(rows), "A")
        said = f"TUNBRIDGE_SEED={SEED} {rows}"
        assert [*found] == alone and len(found) == len(alone) and found == tuple(alone), said
        assert [found[at] for at in range(len(found))] == alone and found[1:] == tuple(alone[1:]), said
        worn = dict.fromkeys(mac for one in rows if one.remote == "A" for mac in one.macs)
        assert [one for one in found.wearing(worn) if worn.keys() & one.macs] == \
            [one for one in alone if worn.keys() & one.macs], said


def test_it_is_plain_if_each_has_one_mac_that_nobody_else_has() -> None:
    rng = random.Random(SEED)
    for _ in range(300):
        rows = some(rng)
        macs = [mac for one in rows for mac in one.macs]
        assert Everybody.of(rows).plain == (len(set(macs)) == len(rows) and all(one.secured for one in rows)
                                            and not any(one.also for one in rows)), f"TUNBRIDGE_SEED={SEED} {rows}"


def test_a_row_alone_is_the_one_among_all_and_outlives_a_copy() -> None:
    for cloud in (wide(3, 12, 5), *map(golden, CASES)):
        for network in cloud.networks:
            everybody = cloud.neighbours.of(network)
            assert [everybody.row(index) for index in range(len(everybody.macs))] == [*everybody.rows]
            assert Everybody.of(everybody.rows) == everybody == pickle.loads(pickle.dumps(everybody))
            assert Everybody.of(everybody.rows).plain or not everybody.plain


def test_to_place_a_network_makes_no_row_of_who_is_elsewhere() -> None:
    cloud = wide(3, 12, 12)
    host = placement.place(cloud, "compute0", placement.imagined(cloud, "compute0"))
    (network,) = host.networks
    assert isinstance(network.neighbours, Elsewhere)
    assert "rows" not in vars(network.neighbours.everybody)
