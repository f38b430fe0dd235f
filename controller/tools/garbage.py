"""How often Python looks for garbage: rarely, as what we make is values, and values hold each other in no circles.

A cloud of 20,000 ports is millions of objects that live as long as their topology is in force. With Python's own
thresholds, every few thousand new flows have all of them looked through: half of the time that compiling takes.
"""
from __future__ import annotations

import gc
from typing import Final

# Of new objects that are still there. The young are a few milliseconds' look; the old are hardly ever looked at.
_THRESHOLDS: Final = (50_000, 50, 100)


def rest() -> None:
    """What comes from now on stays, too, as when a cloud's switches all come at once: nobody looks until `spare`."""
    gc.freeze()
    gc.disable()


def spare() -> None:
    """What is there now stays, and is not looked at any more; what comes is looked at as seldom as is safe."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()
