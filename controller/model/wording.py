"""The words of a flow's text that stand for somebody: ports, VLANs, tunnel ids, MACs, addresses. See `naming`."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# reg6 holds the port that a frame is for (`fields.REG_OUT_PORT`).
_ADDRESS: Final = (r"(?P<address>(?<![\d.:])\d+\.\d+\.\d+\.\d+(?![\d./])"
                   r"|(?<=ipv6_src=|ipv6_dst=|d_target=)[0-9a-f:]+(?![/0-9a-f:]))")
WORD: Final = re.compile("|".join((
    r"(?P<port>(?:in_port=|output:)(?P<ofport>\d+)|reg6=(?P<reg>0x[0-9a-f]+)|set_field:(?P<set_reg>0x[0-9a-f]+)->reg6)",
    r"(?P<vlan>dl_vlan=(?P<tag>\d+)|set_field:(?P<tci>\d+)->vlan_vid)",
    r"(?P<tunnel>tun_id=(?P<tun>0x[0-9a-f]+)|(?:set_field|load):(?P<set_tun>0x[0-9a-f]+)->(?:tun_id|NXM_NX_TUN_ID\[\]))",
    r"(?P<mac>[0-9a-f]{2}(?::[0-9a-f]{2}){5})",
    _ADDRESS)))


def annotated(text: str, known: Mapping[str, str]) -> str:
    """The words of a match or of actions with their names behind them: `in_port=5 (web1)`."""
    return WORD.sub(lambda word: f"{word[0]} ({known[word[0]]})" if word[0] in known else word[0], text)
