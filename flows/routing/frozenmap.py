"""A dictionary that is a value: every change yields another one, and costs about the same however large it is.

The state of a router holds thousands of connections and changes with each packet; copying a plain dict each time
would make the price of a packet grow with the number of connections.
"""
from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

_SHARDS: Final = 256


class FrozenMap(Generic[K, V]):
    """An immutable mapping, split into shards so that a change copies one of them."""

    __slots__ = ("_count", "_shards")

    def __init__(self, _shards: tuple[dict[K, V] | None, ...] = (None,) * _SHARDS, _count: int = 0) -> None:
        self._shards = _shards
        self._count = _count

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...

    def get(self, key: K, default: D | None = None) -> V | D | None:
        """The value of a key, or the default."""
        shard = self._shards[hash(key) % _SHARDS]
        return default if shard is None else shard.get(key, default)

    def with_(self, key: K, value: V) -> FrozenMap[K, V]:
        """The same map with one more, or one other, value."""
        place = hash(key) % _SHARDS
        shard = dict(self._shards[place] or ())
        grown = self._count + (key not in shard)
        shard[key] = value
        return FrozenMap((*self._shards[:place], shard, *self._shards[place + 1:]), grown)

    def without(self, key: K) -> FrozenMap[K, V]:
        """The same map without a key, which need not be there."""
        if key not in self:
            return self
        place = hash(key) % _SHARDS
        shard = {kept: value for kept, value in (self._shards[place] or {}).items() if kept != key}
        return FrozenMap((*self._shards[:place], shard or None, *self._shards[place + 1:]), self._count - 1)

    def items(self) -> Iterator[tuple[K, V]]:
        """Every pair, in no order to rely on."""
        for shard in self._shards:
            if shard:
                yield from shard.items()

    def __contains__(self, key: K) -> bool:
        shard = self._shards[hash(key) % _SHARDS]
        return shard is not None and key in shard

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenMap) and dict(self.items()) == dict(other.items())

    def __hash__(self) -> int:
        return hash(self._count)

    def __repr__(self) -> str:
        return f"FrozenMap({dict(self.items())!r})"
