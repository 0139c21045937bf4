"""Who asks for a type that no event has waits for ever. It is said, and never refused: the first may be to come."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

from streamhub.core.type_patterns import TypePatterns


def unseen(patterns: Iterable[str], seen: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Which of the patterns match none of the types that were `seen` in the last 30 days, each once: its index, and a
    sentence without its end, with what may have been meant.

    >>> list(unseen(["skus.*", "orders"], ["orders.create", "skus.update"]))
    [(1, 'no event of type orders was seen in 30 days; types are like orders.create, and orders.* takes all of them')]
    >>> [words for _, words in unseen(["sku.*", "orders*", "*.updat"], ["orders.create", "skus.update"])]
    ['no event of type sku.* was seen in 30 days; did you mean skus.*?',
     'no event of type orders* was seen in 30 days; did you mean orders.*?',
     'no event of type *.updat was seen in 30 days; did you mean *.update?']
    """
    told = set()
    for n, pattern in enumerate(patterns):
        if pattern not in told and pattern != "*" and not any(map(TypePatterns([pattern]).matches, seen)):
            told.add(pattern)
            yield n, f"no event of type {pattern} was seen in 30 days{_instead(pattern, seen)}"


def _instead(pattern: str, seen: Sequence[str]) -> str:
    """What may have been meant."""
    of_resource = [each for each in seen if each.startswith(f"{pattern}.")]
    if of_resource:
        return f"; types are like {of_resource[0]}, and {pattern}.* takes all of them"
    if "*" in pattern:
        is_ending = pattern.startswith("*")
        known = {part: f"*.{part}" if is_ending else f"{part}.*" for part in _parts(seen, is_ending=is_ending)}
        close = difflib.get_close_matches(pattern.replace("*", "").strip("."), known, n=1, cutoff=0.5)
        nearest = [known[part] for part in close]
    else:
        nearest = difflib.get_close_matches(pattern, seen, n=1, cutoff=0.5)
    if nearest:
        return f"; did you mean {nearest[0]}?"
    return f"; there were {', '.join(seen[:5])}{', …' if len(seen) > 5 else ''}" if seen else ", nor of any other"


def _parts(seen: Sequence[str], *, is_ending: bool) -> set[str]:
    """What stands before the last dot, or behind it."""
    return {each.rpartition(".")[2 if is_ending else 0] for each in seen if "." in each}
