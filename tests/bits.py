"""Addresses bit by bit, so that nothing is shared with what is under test."""
from __future__ import annotations


def within(address: str, prefix: str) -> bool:
    """Whether a prefix in its usual form contains an address."""
    base, bits = prefix.split("/")
    version6 = ":" in base
    if (":" in address) != version6:
        return False
    width = 128 if version6 else 32
    drop = width - int(bits)
    return _bits(address, version6) >> drop == _bits(base, version6) >> drop


def _bits(address: str, version6: bool) -> int:
    if not version6:
        return int("".join(f"{int(part):08b}" for part in address.split(".")), 2)
    head, gap, tail = address.partition("::")
    left, right = [part for part in head.split(":") if part], [part for part in tail.split(":") if part]
    middle = ["0"] * (8 - len(left) - len(right)) if gap else []
    return int("".join(f"{int(part, 16):016b}" for part in [*left, *middle, *right]), 2)
