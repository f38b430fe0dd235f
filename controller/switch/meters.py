"""How often a simulated router's packets may ask the controller. The rates are ours; ids come from placement."""
from __future__ import annotations

from typing import Final

from flows.host import ANNOUNCEMENT_METER, CONTROLLER_METER, Meter, SimulatedRouter
from flows.routed import changeable

RATE: Final = 100  # packets a second of one VM, or of all that the topology does not know behind one leg
BURST: Final = 50
# All that a switch may ask. A packet costs the daemon up to half a millisecond, and there are other switches.
EVERYTHING: Final = Meter(CONTROLLER_METER, 1000, 500)
ANNOUNCEMENTS: Final = Meter(ANNOUNCEMENT_METER, RATE, BURST)


def of_router(router: SimulatedRouter) -> tuple[Meter, ...]:
    """The meters that a router's flows name, each once."""
    ids = [leg.meter for leg in router.legs] + [neighbour.meter for neighbour in router.neighbours]
    mine = tuple(Meter(number, RATE, BURST) for number in dict.fromkeys(ids))
    return (*mine, ANNOUNCEMENTS) if changeable(router) else mine


def made_here(meter: Meter) -> bool:
    """Whether it is one of ours, as far as a meter can show it: ids say nothing, and with it go all its flows."""
    return (meter.rate, meter.burst) in {(RATE, BURST), (EVERYTHING.rate, EVERYTHING.burst)}
