"""Every event once and in order, while tail, history and socket do anything."""

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamhub.core import ids
from streamhub.core.subscription import State, Subscription

BOUND = 100


class Event(NamedTuple):
    id: str
    frame: bytes


def event(number: int, size: int = 10) -> Event:
    return Event(ids.event_id(number, 0), b"%d" % number + b"." * (size - 1) + b"|")


def numbers(data: bytes) -> list[int]:
    return [int(part.rstrip(b".")) for part in data.split(b"|") if part]


def caught_up(position: int = 0) -> Subscription:
    at = ids.event_id(position, 0)
    subscription = Subscription(at, at, BOUND)
    subscription.page(at)
    return subscription


def test_a_stream_that_has_read_up_to_the_joint_is_live() -> None:
    assert caught_up().state is State.LIVE


def test_a_stream_that_has_not_reads_on() -> None:
    subscription = Subscription(ids.event_id(0, 0), ids.event_id(5, 0), BOUND)
    subscription.page(ids.event_id(4, 0))
    assert subscription.state is State.CATCHING_UP


def test_live_events_of_one_turn_leave_together() -> None:
    subscription = caught_up()
    assert subscription.announce([event(1)])
    assert not subscription.announce([event(2)])
    run = subscription.take()
    assert run is not None
    assert numbers(run.frames) == [1, 2]


def test_what_the_tail_repeats_is_left_out() -> None:
    subscription = caught_up()
    subscription.announce([event(1), event(2)])
    subscription.announce([event(1), event(2), event(3)])
    run = subscription.take()
    assert run is not None
    assert numbers(run.frames) == [1, 2, 3]


def test_a_full_socket_sends_the_stream_back_to_history() -> None:
    subscription = caught_up()
    assert not subscription.announce([event(1)], unsent=BOUND)
    assert (subscription.state, subscription.handover_id) == (State.CATCHING_UP, ids.event_id(1, 0))


def test_while_catching_up_the_sockets_buffer_does_not_count() -> None:
    subscription = Subscription(ids.event_id(0, 0), ids.event_id(0, 0), BOUND)
    subscription.announce([event(1)], unsent=10 * BOUND)
    subscription.page(ids.event_id(0, 0))
    run = subscription.take()
    assert run is not None
    assert numbers(run.frames) == [1]


def test_falling_behind_forgets_what_was_due() -> None:
    subscription = caught_up()
    subscription.announce([event(1)])
    subscription.fell_behind(ids.event_id(3, 0))
    assert subscription.take() is None
    assert (subscription.position, subscription.handover_id) == (ids.event_id(0, 0), ids.event_id(3, 0))


def test_what_was_due_and_could_not_be_written_is_read_from_history() -> None:
    subscription = caught_up()
    subscription.announce([event(1), event(2)])
    subscription.fell_behind(subscription.position)
    assert subscription.handover_id == ids.event_id(2, 0)


def test_events_may_go_to_the_socket_at_once_where_nothing_waits_before_them() -> None:
    subscription = caught_up()
    assert subscription.hand_over(ids.event_id(1, 0), ids.event_id(2, 0), 10, 0)
    assert not subscription.hand_over(ids.event_id(2, 0), ids.event_id(3, 0), 10, 0)  # the first was handed over
    assert not subscription.hand_over(ids.event_id(3, 0), ids.event_id(3, 0), 10, BOUND)
    subscription.announce([event(3)])
    assert not subscription.hand_over(ids.event_id(4, 0), ids.event_id(4, 0), 10, 0)
    assert subscription.position == ids.event_id(2, 0)


def test_what_is_not_this_readers_need_not_be_read_again() -> None:
    subscription = caught_up()
    subscription.passed(ids.event_id(4, 0))
    subscription.fell_behind(ids.event_id(6, 0))
    subscription.passed(ids.event_id(5, 0))  # catching up: history has not been read up to there
    assert subscription.position == ids.event_id(4, 0)


def test_a_stream_that_is_ending_says_nothing_more() -> None:
    subscription = caught_up()
    subscription.announce([event(1)])
    subscription.end()
    assert not subscription.announce([event(2)])
    assert subscription.take() is None
    assert subscription.state is State.ENDING


class Reading(RuleBasedStateMachine):
    """History grows; a tail announces what was appended, late, again, or gives up; a reader's socket is full or not."""

    @initialize(before=st.integers(0, 5), start=st.integers(0, 5))
    def begin(self, before: int, start: int) -> None:
        self.head = before  # events 1 … head are in history
        self.announced = before
        self.start = min(start, before)
        self.got: list[int] = []
        self.subscription = Subscription(ids.event_id(self.start, 0), ids.event_id(before, 0), BOUND)

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        self.head += count

    @precondition(lambda self: self.announced < self.head)
    @rule(most=st.integers(1, 4), repeat=st.integers(0, 3), size=st.sampled_from([2, 10, 60]),
          unsent=st.sampled_from([0, 50, 200]))  # fmt: skip
    def announce(self, most: int, repeat: int, size: int, unsent: int) -> None:
        """The tail's next run, which may repeat some of what it has announced before."""
        end = min(self.head, self.announced + most)
        first = max(1, self.announced + 1 - repeat)
        self.subscription.announce([event(n, size) for n in range(first, end + 1)], unsent)
        self.announced = end

    @precondition(lambda self: self.announced < self.head)
    @rule(most=st.integers(1, 4), size=st.sampled_from([2, 60]), unsent=st.sampled_from([0, 50, 200]))
    def hand_over(self, most: int, size: int, unsent: int) -> None:
        """The tail's next run goes to the socket at once, where it may."""
        first, end = self.announced + 1, min(self.head, self.announced + most)
        run = [event(n, size) for n in range(first, end + 1)]
        if self.subscription.hand_over(run[0].id, run[-1].id, size * len(run), unsent):
            self.got += range(first, end + 1)
        else:
            self.subscription.announce(run, unsent)
        self.announced = end

    @precondition(lambda self: self.announced < self.head)
    @rule()
    def lose(self) -> None:
        """The tail says that it has left something out."""
        self.announced = self.head
        self.subscription.fell_behind(ids.event_id(self.head, 0))

    @rule()
    def hold_back(self) -> None:
        """What is due may not be written just now."""
        self.subscription.fell_behind(self.subscription.position)

    @precondition(lambda self: self.subscription.state is State.CATCHING_UP)
    @rule(most=st.integers(1, 5), data=st.data())
    def page(self, most: int, data: st.DataObject) -> None:
        """One page is read; while it is, other things happen."""
        after, until = self._number(self.subscription.position), self._number(self.subscription.handover_id)
        found = list(range(after + 1, until + 1))
        page, complete = found[:most], len(found) <= most
        if self.announced < self.head and data.draw(st.booleans()):
            self.announce(data.draw(st.integers(1, 4)), 1, data.draw(st.sampled_from([2, 60])), 0)
        self.got += page
        self.subscription.page(ids.event_id(until if complete else page[-1], 0))

    @rule()
    def turn(self) -> None:
        """The event loop's turn ends."""
        run = self.subscription.take()
        if run is not None:
            self.got += numbers(run.frames)

    @invariant()
    def nothing_is_repeated_and_nothing_left_out(self) -> None:
        assert self.got == list(range(self.start + 1, self.start + 1 + len(self.got)))

    @invariant()
    def the_buffer_is_bounded(self) -> None:
        assert self.subscription._size <= BOUND

    def teardown(self) -> None:
        """Left alone, the reader ends up with everything that was announced."""
        if not hasattr(self, "subscription"):
            return
        while self.subscription.state is State.CATCHING_UP:
            after, until = self._number(self.subscription.position), self._number(self.subscription.handover_id)
            self.got += range(after + 1, until + 1)
            self.subscription.page(ids.event_id(max(after, until), 0))
        self.turn()
        assert self.got == list(range(self.start + 1, max(self.announced, self.start) + 1))

    def _number(self, position: str) -> int:
        return ids.milliseconds(position)


Reading.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestReading = Reading.TestCase
