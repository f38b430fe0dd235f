"""A host's packet filter, want against have: sets, chains, and the conversations that go on.

No address becomes a member of a set before the rules are in that are meant for it, and none stays one longer than
these: in between, a set holds what both agree on. Rules change in one go for each version of IP; afterwards `sweep`
judges the conversations of the ports that changed. A zone that is new to its port is emptied first.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from controller.host import iptables, steps, sweep
from controller.host.firewall import AddressSet, Firewall, Guarded
from controller.host.steps import Step

_FAMILY: Final = {4: "inet", 6: "inet6"}
_ROOM: Final = 1 << 20  # members of a set; ipset's own limit is 65536
_LEAVING, _COMING = "remote groups, without who has left them", "remote groups, with who has come to them"
_SETS: Final = Step(("ipset", "restore", "-exist"), "")
_MODULE: Final = Step(("modprobe", "-q", "br_netfilter"), "frames on a Linux bridge pass iptables", tolerant=True)
_SWITCH: Final = Step(("sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables=1",
                       "net.bridge.bridge-nf-call-ip6tables=1"), _MODULE.why)

Sets = tuple[AddressSet, ...]


@dataclass(frozen=True)
class Change:
    """What is to be done, and whose rules are not yet what they shall be.

    `rules` are in force when they are done; `judging`, JSON as `sweep` reads it, is about the conversations that go on.
    """

    rules: tuple[Step, ...] = ()
    judging: str = ""  # empty: nobody need be judged
    touched: tuple[Guarded, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of it, for whoever runs commands."""
        return *self.rules, *((_judge(self.judging),) if self.judging else ())


@lru_cache(maxsize=64)
def change(want: Firewall | None, have: Firewall | None) -> Change:
    """From what stands in a kernel (None: nothing) to what a topology wants (None: nothing)."""
    shall, stands = want or Firewall(), have or Firewall(switched_on=want is None)
    if _kernel(shall) == _kernel(stands):
        return Change()
    touched = _touched(shall, stands)
    before, after = _sets(shall.sets, stands.sets)
    known = set(iptables.zones(stands.v4).items())
    return Change((
        *((_MODULE, _SWITCH) if want and not stands.switched_on else ()),
        *_ipset(before, _LEAVING),
        *_restore("iptables", shall.v4, stands.v4), *_restore("ip6tables", shall.v6, stands.v6),
        *_ipset(after, _COMING)), _judging(shall.sets, touched, known), touched)


def rewritten(sets: tuple[Sets, Sets], lines: Mapping[int, tuple[str, ...]], touched: tuple[Guarded, ...]) -> Change:
    """The same where ports that are guarded already change their rules: the sets, want and have, of the host, the lines
    for the two versions of IP, and the ports.
    """
    before, after = _sets(*sets)
    known = {(one.key, one.zone) for one in touched if one.zone is not None}
    return Change((*_ipset(before, _LEAVING), *_restoring("iptables", lines[4]), *_restoring("ip6tables", lines[6]),
                   *_ipset(after, _COMING)), _judging(sets[0], touched, known), touched)


def _kernel(one: Firewall) -> tuple[object, ...]:
    return one.v4, one.v6, set(one.sets), one.switched_on


def _restore(program: str, want: tuple[str, ...], have: tuple[str, ...]) -> Iterator[Step]:
    yield from _restoring(program, iptables.restore(want, have))


def _restoring(program: str, lines: tuple[str, ...]) -> Iterator[Step]:
    if lines:
        yield Step((f"{program}-restore", "--noflush"), "the rules of the ports, in one go", lines)


def closing(touched: Iterable[Guarded]) -> tuple[Step, ...]:
    """What is done when a change has failed: nothing passes a port whose rules are not the wanted ones."""
    return steps.ip_batch((f"link set dev {end} nomaster" for one in touched for end in one.plugs),
                          "ports are closed whose rules are not in", tolerant=True)


def _touched(want: Firewall, have: Firewall) -> tuple[Guarded, ...]:
    """Ports with a rule, or a set in a rule, that is not what it shall be; also those of which there was nothing."""
    if not have.switched_on:
        return want.guarded
    keys = iptables.keys_of_difference(want.v4, have.v4) | iptables.keys_of_difference(want.v6, have.v6)
    had = {one.name: one for one in have.sets}
    moved = {one.name for one in want.sets if had.get(one.name) != one}
    if moved:
        keys |= {key for key, name in iptables.with_sets((*want.v4, *want.v6)) if name in moved}
    return tuple(one for one in want.guarded if one.key in keys)


# Sets.

def _sets(want: Iterable[AddressSet], have: Iterable[AddressSet]) -> tuple[list[str], list[str]]:
    """The lines for `ipset restore` before and after the rules change."""
    wanted, standing = {one.name: one for one in want}, {one.name: one for one in have}
    before: list[str] = []
    after: list[str] = []
    for name, new in wanted.items():
        old = standing.get(name)
        if old is None:
            before += [f"create {name} hash:net family {_FAMILY[new.version]} maxelem {_ROOM}", f"flush {name}"]
        was, shall = set(old.members if old else ()), set(new.members)
        before += [f"del {name} {member}" for member in sorted(was - shall)]
        # Nobody asks a set that is new before the rules are in.
        (after if old else before).extend(f"add {name} {member}" for member in sorted(shall - was))
    after += [f"destroy {name}" for name in standing if name not in wanted]
    return before, after


def _ipset(lines: list[str], why: str) -> Iterator[Step]:
    if lines:
        yield Step(_SETS.argv, why, tuple(lines))


# Conversations.

def _judging(sets: Sets, touched: Iterable[Guarded], known: set[tuple[str, int]]) -> str:
    tracked = [one for one in touched if one.zone is not None]
    if not tracked:
        return ""
    flush = [one.zone for one in tracked if (one.key, one.zone) not in known]
    judge = ",".join(f'"{one.zone}":{one.judge}' for one in tracked if (one.key, one.zone) in known)
    members = json.dumps({one.name: one.members for one in sets}, separators=(",", ":"))
    return f'{{"flush":{json.dumps(flush)},"judge":{{{judge}}},"sets":{members}}}'


def _judge(plan: str) -> Step:
    return Step((sys.executable, "-I", str(Path(sweep.__file__))),
                "conversations that no rule allows any more are cut", (plan,))
