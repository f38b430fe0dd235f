"""What the daemon says of hypervisors' packet filters, as JSON, to whoever has it change a topology."""
from __future__ import annotations

from typing import Any

from controller.host import orders
from controller.host.rewriting import rewriting
from controller.model.succession import Succession


def changed(step: Succession) -> dict[str, Any] | None:
    """By host, what a step changes, as `orders.from_json` reads it; None if not in packet filters alone."""
    changes = rewriting(step)
    if changes is None:
        return None
    return {host: orders.to_json(one.rules, one.judging, len(one.touched)) for host, one in changes.items()}
