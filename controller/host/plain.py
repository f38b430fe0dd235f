"""Values as JSON takes them."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists, all the way down. As `asdict`, which copies every string."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    kind: Any = type(value)
    names = _names(kind)
    return {name: plain(getattr(value, name)) for name in names} if names else value


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind)) if hasattr(kind, "__dataclass_fields__") else ()
