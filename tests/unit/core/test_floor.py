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
        self.last_ended = 99
        self.snapshot: int | None = None

    def xmin(self) -> int:
        """As in PostgreSQL's snapshots: ids above all that ended are ignored."""
        xmax = self.last_ended + 1
        return min([xid for xid in self.open if xid < xmax], default=xmax)

    def assign(self) -> int:
        self.next_xid += 1
        return self.next_xid - 1

    @rule()
    def begin(self) -> None:
        self.open[self.assign()] = []

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
        xid = sorted(self.open)[which % len(self.open)]
        numbers = self.open.pop(xid)
        self.last_ended = max(self.last_ended, xid)
        if commit:
            self.visible |= set(numbers)

    @precondition(lambda self: self.snapshot is None)
    @rule()
    def take_a_snapshot(self) -> None:
        self.snapshot = self.xmin()

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def observe(self) -> None:
        """The sequence is read after the snapshot of the same statement, at any distance."""
        assert self.snapshot is not None
        self.see(self.snapshot)

    @rule()
    def observe_at_once(self) -> None:
        self.see(self.xmin())

    def see(self, xmin: int) -> None:
        own = None
        if self.floor.wants_id:
            own = self.last_ended = self.assign()
        self.floor.observe(Marks(self.last_value, xmin, own))
        self.snapshot = None

    @rule()
    def poll_until_nothing_is_left(self) -> None:
        above = {number for number in self.visible if number > self.floor.value}
        self.seen |= above
        self.floor.drained()

    @rule(count=st.integers(1, 3))
    def poll_the_first_ones(self, count: int) -> None:
        above = sorted(number for number in self.visible if number > self.floor.value and number not in self.seen)
        read = above[:count]
        self.seen |= set(read)
        if read:
            self.floor.read_to(read[-1])

    @invariant()
    def nothing_unseen_lies_below_the_floor(self) -> None:
        below = {number for number in self.visible if number <= self.floor.value}
        assert below <= self.seen
        assert all(number > self.floor.value for numbers in self.open.values() for number in numbers)


TestDatabase = Database.TestCase


def test_the_floor_moves_up_once_all_writers_have_ended() -> None:
    floor = Floor()
    for marks in (Marks(10, 100, None), Marks(10, 100, 100), Marks(10, 101, None)):
        floor.observe(marks)
    floor.drained()
    assert floor.value == 10


def test_the_floor_waits_for_a_writer_that_holds_the_newest_id() -> None:
    """Its id is 100: nothing above 99 has ended, so each snapshot's xmin is 100, until our own 101 has."""
    floor = Floor()
    for marks in (Marks(10, 100, None), Marks(10, 100, 101), Marks(10, 100, None)):
        floor.observe(marks)
        floor.drained()
    assert floor.value == 0


def test_the_floor_stays_while_nothing_was_drained() -> None:
    floor = Floor()
    for n in range(9):
        floor.observe(Marks(10, 100 + n, 100))
    assert floor.value == 0


def test_the_floor_moves_with_a_backlog_that_is_read() -> None:
    floor = Floor()
    for marks in (Marks(10, 100, None), Marks(10, 100, 100), Marks(10, 101, None)):
        floor.observe(marks)
    values = []
    for number in (4, 8, 12):
        floor.read_to(number)
        values.append(floor.value)
    assert values == [4, 8, 10]


def test_the_floor_stays_at_what_was_read_before_all_writers_had_ended() -> None:
    floor = Floor()
    for marks in (Marks(10, 100, None), Marks(10, 100, 101)):
        floor.observe(marks)
        floor.read_to(4)
    assert floor.value == 0


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_the_floor_never_goes_down(steps: list[int]) -> None:
    floor = Floor()
    last, value = 0, 0
    for step in steps:
        last += step
        floor.observe(Marks(last, 100 + last, 99 + last))
        floor.drained()
        assert floor.value >= value
        value = floor.value
