"""Patterns of event types: `ticket.created`, `ticket.*`, `*.create`, `*`.

A `*` stands for any text within one segment; a pattern that is `*` alone stands for every type.
"""

from collections.abc import Iterable
from typing import Final, Self

from streamhub.core.names import wrong_pattern

MOST_PATTERNS: Final = 500

_MOST_REMEMBERED: Final = 1_000


class TypePatterns:
    """A set of patterns; equal to another of the same patterns."""

    __slots__ = ("_globs", "_plain", "_remembered", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = frozenset(patterns)
        self._plain = frozenset(each for each in self.patterns if "*" not in each)
        self._globs = tuple(_split(each) for each in sorted(self.patterns - self._plain - {"*"}))
        self._remembered: dict[str, bool] = {}

    @classmethod
    def parse(cls, *texts: str) -> Self:
        """The union of lists of patterns, each separated by commas.

        Raises ValueError with what is wrong with the first pattern that is, as a sentence without its end.
        """
        patterns = [each for text in texts for each in text.split(",")]
        if len(patterns) > MOST_PATTERNS:
            raise ValueError(f"there are {len(patterns)} types; at most {MOST_PATTERNS} are allowed")
        for each in patterns:
            wrong = wrong_pattern(each)
            if wrong:
                shown = repr(each if len(each) <= 80 else each[:80] + "…")
                raise ValueError(f"{shown} {wrong}; give types such as skus.update, ticket.* or *, separated by commas")
        return cls(patterns)

    @classmethod
    def union(cls, several: Iterable["TypePatterns"]) -> Self:
        return cls(pattern for each in several for pattern in each.patterns)

    def matches(self, type_: str) -> bool:
        found = self._remembered.get(type_)
        if found is None:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            found = self._remembered[type_] = self._judge(type_)
        return found

    def _judge(self, type_: str) -> bool:
        if type_ in self._plain or "*" in self.patterns:
            return True
        segments = type_.split(".")
        return any(len(glob) == len(segments) and all(map(_segment_matches, glob, segments)) for glob in self._globs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypePatterns) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"TypePatterns({sorted(self.patterns)})"


def _split(pattern: str) -> tuple[list[str], ...]:
    """Per segment the texts between its stars."""
    return tuple(segment.split("*") for segment in pattern.split("."))


def _segment_matches(texts: list[str], segment: str) -> bool:
    """Each text at its first place after the one before: no way back is ever needed, so time is bounded."""
    if len(texts) == 1:
        return segment == texts[0]
    first, *middle, last = texts
    if len(segment) < len(first) + len(last) or not segment.startswith(first) or not segment.endswith(last):
        return False
    position, end = len(first), len(segment) - len(last)
    for text in middle:
        position = segment.find(text, position, end)
        if position < 0:
            return False
        position += len(text)
    return True
