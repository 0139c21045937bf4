"""The floor never passes a number that a transaction holds and has not shown yet."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamhub.core.floor import Floor, Marks


class Database(RuleBasedStateMachine):
    """A sequence and transactions that take an id, then numbers, and end when they like."""

    def __init__(self) -> None:
        super().__init__()
        self.floor = Floor()
        self.next_xid = 100
        self.last_value = 0
        self.open: dict[int, list[int]] = {}
        self.visible: set[int] = set()
        self.seen: set[int] = set()
        self.snapshot: tuple[int, int] | None = None

    def xmin(self) -> int:
        return min(self.open, default=self.next_xid)

    @rule()
    def begin(self) -> None:
        self.open[self.next_xid] = []
        self.next_xid += 1

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0), count=st.integers(1, 3))
    def take_numbers(self, which: int, count: int) -> None:
        numbers = self.open[sorted(self.open)[which % len(self.open)]]
        for _ in range(count):
            self.last_value += 1
            numbers.append(self.last_value)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0), commit=st.booleans())
    def end(self, which: int, commit: bool) -> None:
        numbers = self.open.pop(sorted(self.open)[which % len(self.open)])
        if commit:
            self.visible |= set(numbers)

    @precondition(lambda self: self.snapshot is None)
    @rule()
    def take_a_snapshot(self) -> None:
        self.snapshot = (self.xmin(), self.next_xid)

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def observe(self) -> None:
        """The sequence is read after the snapshot of the same statement, at any distance."""
        assert self.snapshot is not None
        self.floor.observe(Marks(self.last_value, *self.snapshot))
        self.snapshot = None

    @rule()
    def observe_at_once(self) -> None:
        self.floor.observe(Marks(self.last_value, self.xmin(), self.next_xid))
        self.snapshot = None

    @rule()
    def poll_until_nothing_is_left(self) -> None:
        above = {number for number in self.visible if number > self.floor.value}
        self.seen |= above
        self.floor.drained()

    @invariant()
    def nothing_unseen_lies_below_the_floor(self) -> None:
        below = {number for number in self.visible if number <= self.floor.value}
        assert below <= self.seen
        assert all(number > self.floor.value for numbers in self.open.values() for number in numbers)


TestDatabase = Database.TestCase


def test_the_floor_moves_up_once_all_writers_have_ended() -> None:
    floor = Floor()
    for _ in range(3):
        floor.observe(Marks(10, 100, 100))
    floor.drained()
    assert floor.value == 10


def test_the_floor_stays_while_nothing_was_drained() -> None:
    floor = Floor()
    for _ in range(9):
        floor.observe(Marks(10, 100, 100))
    assert floor.value == 0


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_the_floor_never_goes_down(steps: list[int]) -> None:
    floor = Floor()
    last, value = 0, 0
    for step in steps:
        last += step
        floor.observe(Marks(last, 100 + last, 100 + last))
        floor.drained()
        assert floor.value >= value
        value = floor.value
