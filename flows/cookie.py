"""Cookies: who owns a flow, what kind it is, and a digest of its content.

owner 8 bits | kind 8 bits | digest 48 bits. Two flows of one bridge wear the same cookie only if they are the
same, so reconciling is comparing two sets of integers and explaining is a look-up.
"""
from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from struct import unpack
from typing import Final

from flows.flow import Flow
from flows.text import line

OWNER: Final = 0x54  # "T"; flows of other owners are never touched
COMPILED: Final = 0x01  # computed from the topology
LEARNED: Final = 0x02  # added by the switch itself, through a learn action of ours
NEIGHBOUR: Final = 0x03  # added by the daemon outside of all reconciling: a simulated router's neighbour

OWNER_MASK: Final = 0xFF << 56
KIND_MASK: Final = 0xFFFF << 48
EXACT: Final = (1 << 64) - 1


def of_kind(kind: int) -> int:
    """The upper 16 bits of our cookies of a kind."""
    return OWNER << 56 | kind << 48


DIGEST_BITS: Final = 48
_DIGEST_BYTES: Final = DIGEST_BITS // 8
_COMPILED_COOKIE: Final = of_kind(COMPILED)
_UPPER_BYTES: Final = bytes((OWNER, COMPILED))
_LINE: Final = "\n"
_ENCODED_LINE: Final = _LINE.encode()
_BEGUN: Final = blake2b(digest_size=_DIGEST_BYTES)  # of nothing yet: to copy it is cheaper than to make one
LEARNED_COOKIE: Final = of_kind(LEARNED)
NEIGHBOUR_COOKIE: Final = of_kind(NEIGHBOUR)


def cookie_of(flow: Flow) -> int:
    """The cookie of a compiled flow: the digest is BLAKE2b of its canonical line."""
    if not flow.known_cookie:
        # A flow never changes, nor does what is computed from it.
        digest = blake2b(line(flow).encode(), digest_size=_DIGEST_BYTES).digest()
        object.__setattr__(flow, "known_cookie", _COMPILED_COOKIE | int.from_bytes(digest, "big"))
    return flow.known_cookie


def cookies_of_lines(before: str, rest: Sequence[str]) -> list[int]:
    """The cookies of many flows whose lines begin alike."""
    return cookies_of_text(_LINE.join(rest), before) if rest else []


def cookies_of_text(text: str, before: str = "") -> list[int]:
    """The same of a text of one line or more, each to be read behind `before`."""
    begun = _BEGUN.copy()
    begun.update(before.encode())
    begin = begun.copy
    found = [b""]
    end = found.append
    for rest in text.encode().split(_ENCODED_LINE):
        digest = begin()
        digest.update(rest)
        end(digest.digest())
    return list(unpack(f">{len(found) - 1}Q", _UPPER_BYTES.join(found)))


def is_compiled(cookie: int) -> bool:
    """Whether we computed the flow that wears this cookie (and so may delete it)."""
    return cookie & KIND_MASK == of_kind(COMPILED)


def is_learned(cookie: int) -> bool:
    """Whether the switch learned it on our behalf."""
    return cookie & KIND_MASK == of_kind(LEARNED)


def is_neighbour(cookie: int) -> bool:
    """Whether it is a neighbour's that answered a simulated router's ARP."""
    return cookie & KIND_MASK == NEIGHBOUR_COOKIE
