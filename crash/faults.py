"""The faults of a run: target, action, time and duration. They follow from the seed."""

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

LONGEST_STOP: Final = 8.0  # seconds: longer than every lease

LEADER, STANDBY, POSTGRES, BROKER, CONSUMER = "leading relay", "stand-by relay", "PostgreSQL", "broker", "consumer"
GATEWAYS: Final = ("gateway 1", "gateway 2")
DISPATCHERS: Final = ("dispatcher 1", "dispatcher 2")

KILL, STOP, END, IMMEDIATE, BACKEND, RESET = "kill", "stop", "end", "immediate", "backend", "reset"

# Each target with its actions, each once in a deck.
DECK: Final = (
    *((role, action) for role in (LEADER, STANDBY, *GATEWAYS, *DISPATCHERS) for action in (KILL, STOP, END)),
    (LEADER, KILL),
    (LEADER, STOP),
    *((POSTGRES, action) for action in (KILL, STOP, END, IMMEDIATE, BACKEND)),
    (CONSUMER, RESET),
    (CONSUMER, RESET),
)
BROKERS_DECK: Final = tuple((BROKER, action) for action in (KILL, STOP, END))
DONE: Final = {
    KILL: "kill -9",
    STOP: "SIGSTOP, SIGCONT",
    END: "SIGTERM, started again",
    IMMEDIATE: "immediate shutdown",
    BACKEND: "kill -9 of a backend",
    RESET: "RST",
}


class Victim(Protocol):
    """`actions`: each takes a fault's `seconds`, and returns when the target runs again."""

    @property
    def name(self) -> str: ...
    @property
    def actions(self) -> Mapping[str, Callable[[float], Awaitable[None]]]: ...


class Fault(NamedTuple):
    """`at`: seconds after the beginning. `seconds`: how long the target stays stopped or away."""

    at: float
    target: str
    action: str
    seconds: float


def plan(seed: int, count: int, every: float, *, broker: bool) -> list[Fault]:
    """`count` faults, on average one in `every` seconds. Each kind comes once before any repeats."""
    chance = random.Random(f"faults {seed}")
    kinds = _kinds(chance, DECK + BROKERS_DECK if broker else DECK)
    faults = []
    at = 0.0
    for _ in range(count):
        at += chance.uniform(0.3, 1.7) * every
        target, action = next(kinds)
        seconds = chance.uniform(0.5, LONGEST_STOP) if action == STOP else chance.uniform(0, 2.5)
        faults.append(Fault(at, target, action, seconds))
    return faults


def _kinds(chance: random.Random, deck: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    while True:
        yield from chance.sample(deck, len(deck))
