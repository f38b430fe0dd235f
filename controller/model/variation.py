"""A topology's file with one thing changed, as bytes that `reading.parse` takes: for live tests, that undo it."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controller.model import source


def with_rule(content: bytes, group: str, rule: Mapping[str, object]) -> bytes:
    """The file with one more rule at the end of a security group, as JSON, which is YAML, too.

    KeyError if the file has no such group.
    """
    root = source.read(content).root
    data: dict[str, Any] = dict(root.data) if root is not None and isinstance(root.data, dict) else {}
    groups = dict(data["security_groups"])
    given = groups[group]
    if isinstance(given, dict):
        groups[group] = {**given, "rules": [*(given.get("rules") or []), dict(rule)]}
    else:
        groups[group] = [*(given or []), dict(rule)]
    return json.dumps({**data, "security_groups": groups}, ensure_ascii=False).encode()
