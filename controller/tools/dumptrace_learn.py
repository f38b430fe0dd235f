"""What a learn action would install for a packet: the row in ovs-ofctl's words."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from controller.tools import dumptrace_fields as fields
from controller.tools import ofwords
from controller.tools.dumptrace_fields import Part, part

_ABOUT: Final = ("table", "priority", "idle_timeout", "hard_timeout", "fin_idle_timeout", "fin_hard_timeout", "cookie",
                 "limit")
_PLAIN: Final = frozenset(("send_flow_rem", "delete_learned"))
_OUTPUT: Final = re.compile(r"output:(.+)")
_LOAD: Final = re.compile(r"(?:load|set_field):(.+)->(.+)")


def learned(word: str, packet: Mapping[str, int]) -> str:
    """The row. KeyError or ValueError for what nobody knows."""
    words = list(ofwords.split(word.partition("(")[2].removesuffix(")")))
    about = {name: value for name, _, value in (one.partition("=") for one in words) if name in _ABOUT}
    match, actions = [], []
    for one in words:
        if one.partition("=")[0] in _ABOUT or one in _PLAIN:
            continue
        if found := _OUTPUT.fullmatch(one):
            actions.append(f"output:{part(found[1]).of(packet)}")
        elif found := _LOAD.fullmatch(one):
            value = _value(found[1], packet)
            actions.append(f"load:{f'{value:#x}' if value else '0'}->{found[2]}")  # as ovs-ofctl prints it
        else:
            match.append(_matched(one, packet))
    head = [f"{name}={value}" for name, value in about.items() if name not in ("cookie", "limit")]
    return f"{', '.join(head)}, {','.join(_ordered(match))} actions={','.join(actions) or 'drop'}"


def _ordered(words: list[str]) -> Iterator[str]:
    """What others need comes first."""
    yield from sorted(words, key=lambda word: not word.startswith(("dl_type", "eth_type")))


def _value(text: str, packet: Mapping[str, int]) -> int:
    return int(text, 0) if text[:1].isdigit() else part(text).of(packet)


def _matched(text: str, packet: Mapping[str, int]) -> str:
    """`NXM_OF_VLAN_TCI[0..11]` of the packet; `NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]`; `nw_proto=6`."""
    name, found, given = text.partition("=")
    target = part(name)
    whole = fields.PARTS[target.key]
    copied = not found or (given[:1].isalpha() and "[" in given)
    value = part(given or name).of(packet) if copied else target.number(given)
    shown = _shown(target, value)
    called = ofwords.field(name)
    if target.width < whole.width and called == target.key:
        digits = 6 if called == "vlan_tci" else 0
        return f"{called}={value << target.start:#0{digits}x}/{target.mask:#0{digits}x}"
    return f"{called}={shown}"


def _shown(target: Part, value: int) -> str:
    return f"{value:#06x}" if target.key == "dl_type" else target.show(value)
