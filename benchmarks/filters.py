"""What the filters of many subscribers cost an event, without a hub: a change of about 600 bytes, read each time."""

import time
from collections.abc import Callable

from benchmarks.stage import Result, Stage
from streamhub.core import filters
from streamhub.core.filter_index import Index
from streamhub.core.filters import Filters
from streamhub.core.type_patterns import TypePatterns
from streamhub.core.view import View

SUBSCRIBERS = 1_000
ROUNDS = 20_000

EVENT = (
    b'{"id":"01a202b2-c57c-7000-8000-00000000002a","type":"skus.update","event":"update","resource_type":"skus",'
    b'"resource_id":"AYqPSwAqDW","organization":{"id":"org_1","slug":"my-org"},"test":false,'
    b'"created_at":"2026-11-22T10:00:00.123456Z","transaction_id":"7412","resource":{"id":"AYqPSwAqDW",'
    b'"code":"TSHIRT500","price":"12.50","stock":17,"note":"' + b"x" * 200 + b'","updated_at":"2026-11-22T10:00:00Z"},'
    b'"delta":{"price":{"from":"10.00","to":"12.50"}},"who":{"application":"importer"}}'
)


def microseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The best of five, processor time of one call."""
    seen = []
    for _ in range(5):
        before = time.process_time()
        for _ in range(rounds):
            work()
        seen.append((time.process_time() - before) / rounds * 1e6)
    return min(seen)


def index_of(types: TypePatterns | None, asked: Callable[[int], list[tuple[str, str]]]) -> Index[int]:
    index: Index[int] = Index()
    for number in range(SUBSCRIBERS):
        index.add(number, types, filters.parse(asked(number)))
    return index


async def measure(_on: Stage) -> list[Result]:
    one = filters.parse([("resource.code_eq", "TSHIRT1")])
    read = View(EVENT)
    several: list[Filters] = [filters.parse([("resource.code_eq", f"TSHIRT{number}")]) for number in range(SUBSCRIBERS)]
    no_type = index_of(TypePatterns.parse("orders.*"), lambda number: [("resource.code_eq", f"TSHIRT{number}")])
    equal = index_of(None, lambda number: [("resource.code_eq", f"TSHIRT{number}")])
    ordered = index_of(None, lambda number: [("resource.stock_gt", str(100 + number))])

    def each_by_itself() -> int:
        event = View(EVENT)
        return sum(each.matches(event) for each in several)

    rows = [
        ("one filter, its value read already", microseconds(lambda: one.matches(read))),
        ("… with the event read for it", microseconds(lambda: one.matches(View(EVENT)))),
        (
            "1,000 subscribers whose types match nothing",
            microseconds(lambda: no_type.matching("skus.update", View(EVENT))),
        ),
        (
            "… with 1,000 different equality filters, one matches",
            microseconds(lambda: equal.matching("skus.update", View(EVENT))),
        ),
        ("… the same without the index", microseconds(each_by_itself, ROUNDS // 40)),
        (
            "… with 1,000 different `gt`",
            microseconds(lambda: ordered.matching("skus.update", View(EVENT)), ROUNDS // 40),
        ),
    ]
    return [Result(f"filters: {what}, µs an event", f"{seen:.2f}", "") for what, seen in rows]
