"""Hosts that an edit has not reached yet.

An edit of a whole cloud is seconds of work. It is done in portions, one for each tick, and packets, ports and echoes
are heard in between; a host that has something to say before its turn is reached first.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Final

from controller.model import deriving
from controller.switch.editing import Edit
from controller.switch.hoststate import HostState

_PORTION: Final = 3000  # flows computed: some 30 ms


class Backlog:
    """One edit at a time: who brings the next one works this one off first."""

    def __init__(self, portion: int = _PORTION) -> None:
        self._portion = portion  # flows
        self._hosts: dict[str, HostState] = {}
        self._edit: Edit | None = None
        self._networks: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._hosts)

    @property
    def hosts(self) -> Set[str]:
        """By name."""
        return self._hosts.keys()

    def put(self, edit: Edit, hosts: Iterable[HostState]) -> None:
        """All these shall be reached."""
        if self._edit is not None and self._edit.old is not edit.old:
            deriving.forget(self._edit.old)  # of the edit before, which has reached everybody
        self._edit, self._hosts, self._networks = edit, {state.name: state for state in hosts}, set()

    def take(self, name: str) -> tuple[HostState, Edit] | None:
        """The edit that a host waits for, if it does; from now on it does not."""
        state = self._hosts.pop(name, None)
        return (state, self._edit) if state is not None and self._edit is not None else None

    def portion(self) -> Iterator[str]:
        """Whom to reach now, one after the other."""
        spent = 0
        while self._hosts and spent < self._portion:
            name, state = next(iter(self._hosts.items()))
            before = _computed(state)
            yield name
            spent += _computed(state) - before

    def count(self, networks: Iterable[str]) -> int:
        """These are computed for the edit; how many of them for the first time."""
        fresh = set(networks) - self._networks
        self._networks |= fresh
        return len(fresh)


def _computed(state: HostState) -> int:
    return sum(session.counters.compiled for _, session in state.sessions.values())
