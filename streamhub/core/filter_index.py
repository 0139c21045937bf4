"""Which of many subscriptions an event matches, at a cost that grows with those that match rather than with all.

A subscription is kept under one of its equality filters, by path and value; the rest of its conditions is asked only
where that value is the event's. Subscriptions that ask for the same are judged once.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from streamhub.core.filters import Condition, Filters
from streamhub.core.type_patterns import TypePatterns
from streamhub.core.view import View

K = TypeVar("K", bound=Hashable)

_MOST_REMEMBERED: Final = 1_000


class _Entry(Generic[K]):
    """The subscriptions of equal types and filters. `rest` is what the index has not judged already."""

    __slots__ = ("alone", "anchor", "filters", "keys", "rest")

    def __init__(self, filters: Filters, anchor: Condition | None) -> None:
        self.filters = filters
        self.anchor = anchor
        self.rest = Filters(each for each in filters.conditions if each is not anchor)
        self.keys: dict[K, None] = {}
        self.alone = (self,)


class _Group(Generic[K]):
    """The entries of equal types."""

    __slots__ = ("by_path", "entries", "others", "types")

    def __init__(self, types: TypePatterns | None) -> None:
        self.types = types
        self.entries: dict[Filters, _Entry[K]] = {}
        self.by_path: dict[str, dict[str, tuple[_Entry[K], ...]]] = {}
        self.others: dict[Filters, _Entry[K]] = {}

    def entry(self, filters: Filters) -> _Entry[K]:
        found = self.entries.get(filters)
        if found is None:
            found = self.entries[filters] = _Entry(filters, self._anchor(filters))
            self._place(found)
        return found

    def _anchor(self, filters: Filters) -> Condition | None:
        """The equality filter whose values the fewest others are kept under."""
        equalities = [each for each in filters.conditions if each.predicate in ("eq", "in")]
        return min(equalities, key=self._crowd, default=None)

    def _crowd(self, condition: Condition) -> tuple[int, int]:
        values, kept = _values(condition), self.by_path.get(condition.path, {})
        return sum(len(kept.get(value, ())) for value in values), len(values)

    def _place(self, entry: _Entry[K]) -> None:
        if entry.anchor is None:
            self.others[entry.filters] = entry
            return
        kept = self.by_path.setdefault(entry.anchor.path, {})
        for value in _values(entry.anchor):
            there = kept.get(value)
            kept[value] = entry.alone if there is None else (*there, entry)

    def drop(self, entry: _Entry[K]) -> None:
        del self.entries[entry.filters]
        if entry.anchor is None:
            del self.others[entry.filters]
            return
        kept = self.by_path[entry.anchor.path]
        for value in _values(entry.anchor):
            left = tuple(each for each in kept[value] if each is not entry)
            if left:
                kept[value] = left
            else:
                del kept[value]
        if not kept:
            del self.by_path[entry.anchor.path]


class Index(Generic[K]):
    """Subscriptions by key. One organization's; it knows nothing of organizations itself."""

    def __init__(self) -> None:
        self._groups: dict[TypePatterns | None, _Group[K]] = {}
        self._of_key: dict[K, tuple[_Group[K], _Entry[K]]] = {}
        self._of_type: dict[str, list[_Group[K]]] = {}

    def __len__(self) -> int:
        return len(self._of_key)

    def add(self, key: K, types: TypePatterns | None, filters: Filters) -> None:
        """`types` None: all. Raises ValueError where the key is there already."""
        if key in self._of_key:
            raise ValueError(f"{key!r} is in the index already")
        group = self._groups.get(types)
        if group is None:
            group = self._groups[types] = _Group(types)
            self._of_type.clear()
        entry = group.entry(filters)
        entry.keys[key] = None
        self._of_key[key] = group, entry

    def remove(self, key: K) -> None:
        """Raises KeyError where the key is not there."""
        group, entry = self._of_key.pop(key)
        del entry.keys[key]
        if not entry.keys:
            group.drop(entry)
        if not group.entries:
            del self._groups[group.types]
            self._of_type.clear()

    def matching(self, type_: str, event: View) -> list[K]:
        """The keys of the subscriptions that want the event, each once."""
        found: list[K] = []
        for group in self._matching_groups(type_):
            for path, kept in group.by_path.items():
                text = event.at(path).text
                if text is not None:
                    for entry in kept.get(text, ()):
                        if entry.rest.matches(event):
                            found += entry.keys
            for entry in group.others.values():
                if entry.rest.matches(event):
                    found += entry.keys
        return found

    def _matching_groups(self, type_: str) -> list[_Group[K]]:
        found = self._of_type.get(type_)
        if found is None:
            if len(self._of_type) >= _MOST_REMEMBERED:
                self._of_type.clear()
            found = [group for types, group in self._groups.items() if types is None or types.matches(type_)]
            self._of_type[type_] = found
        return found


def _values(condition: Condition) -> frozenset[str]:
    assert not isinstance(condition.operand, bool)
    return frozenset((condition.operand,)) if isinstance(condition.operand, str) else condition.operand
