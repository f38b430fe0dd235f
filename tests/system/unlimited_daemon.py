"""`tunbridge` with routers that answer as often as they are asked, for tests that ask thousands of times.

Meters and the pace of ICMP errors have tests of their own.
"""
from __future__ import annotations

from controller.model import routing
from controller.switch import meters
from controller.tools import cli
from flows.host import CONTROLLER_METER, Meter
from flows.router import Limits

OFTEN = 1_000_000

if __name__ == "__main__":
    routing.LIMITS = Limits(interval=0, per_second=0)
    meters.RATE = meters.BURST = OFTEN
    meters.EVERYTHING = Meter(CONTROLLER_METER, OFTEN, OFTEN)
    cli.main()
