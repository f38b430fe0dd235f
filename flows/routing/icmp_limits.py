"""How many ICMP errors a router sends (Linux: icmp_ratelimit, icmp_ratemask, icmp_msgs_per_sec, redirect_number)."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from flows.router import Limits
from flows.routing.frozenmap import FrozenMap
from flows.routing.transport import REDIRECT, UNREACHABLE

FRAGMENTATION_NEEDED: Final = 4
_REDIRECTS: Final = 9  # ignored redirects after which a host gets no more
_REDIRECT_PAUSE: Final = 0.02  # seconds before the second redirect; doubles with each
_REDIRECT_SILENCE: Final = 20.48  # seconds without cause, after which all is forgotten
MOST_HOSTS: Final = 4096


@dataclass(frozen=True)
class Host:
    """What one receiver of ICMP errors may still get."""

    tokens: float  # in seconds
    since: float
    redirects: int = 0
    redirected: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What is left, for each receiver and together."""

    hosts: FrozenMap[int, Host] = field(default_factory=FrozenMap)
    tokens: float | None = None  # None: full
    since: float = 0.0

    def spend(self, limits: Limits, receiver: int, kind: tuple[int, int], now: float) -> Budget | None:
        """The budget after one error of (type, code); None if it must not be sent."""
        if kind[0] == REDIRECT or kind == (UNREACHABLE, FRAGMENTATION_NEEDED):
            return self  # path MTU discovery is never held up; redirects have their own rule
        together = self._together(limits, now)
        if together is None:
            return None
        if not limits.interval:
            return together
        return together._charged(limits, receiver, limits.burst, now)

    def spend_unroutable(self, limits: Limits, receiver: int, now: float) -> Budget | None:
        """The same for packets without a route, which count twice: here, and as any error."""
        return self._charged(limits, receiver, limits.unroutable_burst, now) if limits.interval else self

    def _charged(self, limits: Limits, receiver: int, burst: int, now: float) -> Budget | None:
        """Without what one error costs a receiver: an interval."""
        full = burst * limits.interval
        host = self.hosts.get(receiver) or Host(full, now)
        tokens = min(full, host.tokens + now - host.since)
        if tokens < limits.interval:
            return None
        return self._with(receiver, replace(host, tokens=tokens - limits.interval, since=now))

    def _together(self, limits: Limits, now: float) -> Budget | None:
        if not limits.per_second:
            return self
        full = float(limits.per_second_burst)
        tokens = full if self.tokens is None else min(full, self.tokens + (now - self.since) * limits.per_second)
        return None if tokens < 1 else replace(self, tokens=tokens - 1, since=now)

    def redirect(self, receiver: int, now: float) -> tuple[Budget, bool]:
        """Whether a host that takes a detour is told so: less and less often, if it does not listen."""
        host = self.hosts.get(receiver) or Host(float("inf"), now)
        if now > host.redirected + _REDIRECT_SILENCE:
            host = replace(host, redirects=0)
        if host.redirects >= _REDIRECTS:
            return self._with(receiver, replace(host, redirected=now)), False
        if host.redirects and now <= host.redirected + _REDIRECT_PAUSE * 2 ** host.redirects:
            return self, False
        return self._with(receiver, replace(host, redirected=now, redirects=host.redirects + 1)), True

    def _with(self, receiver: int, host: Host) -> Budget:
        hosts = self.hosts if len(self.hosts) < MOST_HOSTS or receiver in self.hosts else FrozenMap[int, Host]()
        return replace(self, hosts=hosts.with_(receiver, host))
