"""Numbers made of ids: who comes or goes among others is told in one step, or not at all."""
from __future__ import annotations

import random
from uuid import UUID

import pytest

from controller.model.numbers import exchanged, spread


def given(ids: set[UUID], size: int) -> dict[UUID, int]:
    return {each: 1 + step for each, step in spread(ids, size).items()}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_in_one_step_is_what_is_found_anew(seed: int) -> None:
    pick = random.Random(seed)
    told = 0
    for _ in range(400):
        size = pick.randint(4, 40)
        everybody = [UUID(int=pick.getrandbits(128)) for _ in range(pick.randint(1, size // 2 + 2))]
        here = set(pick.sample(everybody, pick.randint(0, len(everybody))))
        gone = set(pick.sample(sorted(here), min(len(here), pick.randint(0, 2))))
        come = {each for each in everybody if each not in here and pick.random() < 0.3}
        found = exchanged(given(here, size), gone, come, size)
        if found is not None:
            told += 1
            assert found == given((here - gone) | come, size)
    assert told > 50
