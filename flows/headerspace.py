"""Sets of packets: conditions that all hold, less what other conditions take out; and a packet of such a set.

A variable is a header field of a frame as it was put into the network, by its name in `packet.Packet`. A region is
what a table's row takes of what came to the table: its own match, without those of the rows above it.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple


class Literal(NamedTuple):
    """`var & mask == value`."""

    var: str
    value: int
    mask: int


Cube = Mapping[str, tuple[int, int]]  # variable -> (value, mask): the bits that are known of it
Clause = tuple[Literal, ...]  # conditions that must not hold all at once


class Region(NamedTuple):
    """The packets of a cube for which none of the clauses holds."""

    cube: Cube
    nots: tuple[Clause, ...] = ()


EVERYTHING: Final = Region({})
_STEPS: Final = 20_000  # of a search for a packet; those of real tables need a few


class TooHard(Exception):
    """A region whose emptiness was not decided within so many steps: nothing is claimed of it."""


def region(literals: Iterable[Literal], nots: Iterable[Sequence[Literal]] = ()) -> Region | None:
    """The packets for which all literals hold and none of `nots`; None if there are plainly none."""
    found = meet(EVERYTHING, literals)
    for clause in nots:
        found = without(found, clause) if found is not None else None
    return found


def meet(one: Region, literals: Iterable[tuple[str, int, int]]) -> Region | None:
    """Those of a region for which all literals hold, too; None if there are plainly none."""
    cube: Cube = one.cube
    changed: dict[str, tuple[int, int]] | None = None
    for var, value, mask in literals:
        known = cube.get(var)
        if known is None:
            bits = value, mask
        else:
            if (known[0] ^ value) & known[1] & mask:
                return None
            if not mask & ~known[1]:
                continue
            bits = known[0] | value, known[1] | mask
        if changed is None:
            changed = dict(cube)
            cube = changed
        changed[var] = bits
    if changed is None:
        return one
    return _settled(changed, one.nots) if one.nots else Region(changed)


def both(one: Region, other: Region) -> Region | None:
    """What two regions have in common; None if that is plainly nothing."""
    if len(one.cube) < len(other.cube):
        one, other = other, one
    if not other.cube and not other.nots:
        return one
    found = meet(one, [(var, *bits) for var, bits in other.cube.items()])
    if found is None or not other.nots:
        return found
    return _settled(dict(found.cube), (*found.nots, *other.nots) if found.nots else other.nots)


def without(one: Region, literals: Iterable[Literal]) -> Region | None:
    """Those of a region for which not all literals hold; None if there are plainly none."""
    clause = _open(one.cube, literals)
    if clause is None:
        return one
    if not clause:
        return None
    if len(clause) == 1 and _is_bit(clause[0].mask):
        return meet(one, (_turned(clause[0]),))
    return Region(one.cube, (*one.nots, clause))


def minus(one: Region, other: Region) -> Iterator[Region]:
    """What is in a region and not in another, in pieces that do not overlap."""
    rest: Region | None = one
    for var, (value, mask) in other.cube.items():
        literal = Literal(var, value, mask)
        if rest is None:
            return
        piece = without(rest, (literal,))
        if piece is not None and piece is not rest:
            yield piece
        elif piece is rest:
            yield rest
            return
        rest = meet(rest, (literal,))
    for clause in other.nots:
        if rest is not None and (piece := meet(rest, clause)) is not None:
            yield piece
            rest = without(rest, clause)


def united(one: Region, other: Region) -> Region | None:
    """The union of two regions whose cubes differ in a single bit; None if they are not of that kind."""
    if one.cube.keys() != other.cube.keys():
        return None
    apart = [var for var, bits in one.cube.items() if other.cube[var] != bits]
    if len(apart) != 1:
        return None
    (first, mask), (second, known) = one.cube[apart[0]], other.cube[apart[0]]
    bit = first ^ second
    if mask != known or not _is_bit(bit):
        return None
    cube = {**one.cube, apart[0]: (first & ~bit, mask & ~bit)}
    if mask == bit:
        del cube[apart[0]]
    common = tuple([clause for clause in one.nots if clause in other.nots])
    only = ((side, clause) for side in (one, other) for clause in side.nots if clause not in common)
    return Region(cube, (*common, *(_bound(clause, Literal(apart[0], side.cube[apart[0]][0] & bit, bit))
                                    for side, clause in only)))


def uncovered(one: Region, others: Sequence[Region]) -> dict[str, int] | None:
    """A packet of a region that is in none of the others; None if these hold all of it."""
    pieces = [one]
    for other in others:
        pieces = [rest for piece in pieces for rest in (minus(piece, other) if both(piece, other) else (piece,))]
        if not pieces:
            return None
    return next((found for piece in pieces if (found := solve(piece)) is not None), None)


def solve(one: Region) -> dict[str, int] | None:
    """A packet of a region: a value for each variable that counts; the others may have any. None if it is empty."""
    left = [_STEPS]
    found = _search(dict(one.cube), one.nots, left)
    return None if found is None else {var: value for var, (value, _) in found.items()}


def holds(one: Region, packet: Mapping[str, int]) -> bool:
    """Whether a packet is in a region; a variable that it does not have is 0."""
    return (all(packet.get(var, 0) & mask == value for var, (value, mask) in one.cube.items())
            and not any(all(packet.get(var, 0) & mask == value for var, value, mask in clause)
                        for clause in one.nots))


# ---- parts

def _open(cube: Cube, literals: Iterable[Literal]) -> Clause | None:
    """What is left to decide of literals; None if one of them cannot hold, nothing if all of them do."""
    found = []
    for literal in literals:
        var, value, mask = literal
        known = cube.get(var)
        if known is None:
            if mask:
                found.append(literal)
            continue
        if (known[0] ^ value) & known[1] & mask:
            return None
        undecided = mask & ~known[1]
        if undecided:
            found.append(literal if undecided == mask else Literal(var, value & undecided, undecided))
    return tuple(found)


def _settled(cube: dict[str, tuple[int, int]], nots: tuple[Clause, ...]) -> Region | None:
    """A cube and its clauses, these as short as the cube makes them; None if one of them takes everything."""
    again = True
    while again:
        again, kept = False, []
        for clause in nots:
            left = _open(cube, clause)
            if left is None:
                continue
            if not left:
                return None
            if len(left) == 1 and _is_bit(left[0].mask):
                var, value, mask = _turned(left[0])
                old = cube.get(var, (0, 0))
                cube[var] = old[0] | value, old[1] | mask
                again = True
            else:
                kept.append(left)
        nots = tuple(kept)
    return Region(cube, nots)


def _bound(clause: Clause, bit: Literal) -> Clause:
    """A clause that takes out only packets with this bit. It has known nothing of the bit before."""
    same = next((one for one in clause if one.var == bit.var), Literal(bit.var, 0, 0))
    return (*(one for one in clause if one is not same), Literal(bit.var, same.value | bit.value, same.mask | bit.mask))


def _is_bit(mask: int) -> bool:
    return mask & (mask - 1) == 0


def _turned(literal: Literal) -> Literal:
    return Literal(literal.var, literal.value ^ literal.mask, literal.mask)


def _search(cube: dict[str, tuple[int, int]], nots: tuple[Clause, ...], left: list[int]
            ) -> Mapping[str, tuple[int, int]] | None:
    """Break one clause after the other, by one bit of one of its literals."""
    left[0] -= 1
    if not left[0]:
        raise TooHard(f"no packet of {len(nots)} conditions found or excluded in {_STEPS} steps")
    settled = _settled(cube, nots)
    if settled is None or not settled.nots:
        return None if settled is None else settled.cube
    clause = min(settled.nots, key=len)
    before = dict(settled.cube)
    for literal in clause:
        for bit in _bits(literal.mask):
            turned = Literal(literal.var, ~literal.value & bit, bit)
            tried = meet(Region(before), (turned,))
            if tried is not None and (found := _search(dict(tried.cube), settled.nots, left)) is not None:
                return found
            same = meet(Region(before), (Literal(literal.var, literal.value & bit, bit),))
            if same is None:
                return None
            before = dict(same.cube)
    return None


def _bits(mask: int) -> Iterator[int]:
    while mask:
        yield mask & -mask
        mask &= mask - 1
