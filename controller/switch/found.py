"""All rows of a switch as they were read, sorted by what reconciling does with them: most are a cookie, and no more."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.switch import cutting
from controller.switch.events import Installed
from flows.cookie import OWNER, OWNER_MASK, is_compiled


@dataclass
class Found:
    """Rows of a switch. What `telling` holds is in `compiled`, too."""

    compiled: dict[int, list[int]] = field(default_factory=dict)  # place (`cutting`) -> cookies of our compiled rows
    telling: list[Installed] = field(default_factory=list)  # those of them that name a local VLAN or a zone
    others: list[Installed] = field(default_factory=list)  # learned ones, neighbours, strangers
    parts: list[bytes] = field(default_factory=list, compare=False)  # of the dump, as they came (`dumps`)

    @classmethod
    def of(cls, rows: Iterable[Installed]) -> Found:
        """From rows one by one."""
        found = cls()
        for row in rows:
            found.add(row)
        return found

    def add(self, row: Installed) -> None:
        """One row more."""
        if not is_compiled(row.cookie):
            self.others.append(row)
            return
        self.compiled.setdefault(cutting.place(row.table, row.priority), []).append(row.cookie)
        if row.vlan or row.zone:
            self.telling.append(row)

    def __len__(self) -> int:
        return sum(map(len, self.compiled.values())) + len(self.others)

    def places(self) -> dict[int, int]:
        """Cookie -> place of our compiled rows."""
        found: dict[int, int] = {}
        for place, cookies in self.compiled.items():
            found.update(dict.fromkeys(cookies, place))
        return found

    @property
    def strangers(self) -> int:
        """How many rows are of other owners."""
        return sum(row.cookie & OWNER_MASK != OWNER << 56 for row in self.others)
