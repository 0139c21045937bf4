"""Where test servers run."""

import threading
import time

import pytest

from servers import containers


def refused() -> None:
    raise ConnectionRefusedError


def test_an_engine_that_answers_is_used() -> None:
    assert containers.answers(lambda: True)


def test_an_engine_that_refuses_counts_as_none() -> None:
    assert not containers.answers(refused)


def test_an_engine_that_hangs_counts_as_none_once_its_time_is_over() -> None:
    hangs = threading.Event()
    began = time.monotonic()
    assert not containers.answers(hangs.wait, within=0.1)
    assert time.monotonic() - began < 5
    hangs.set()


@pytest.mark.parametrize(
    ("given", "answers", "expected"),
    [
        ("localhost:9092", True, "given"),
        ("localhost:9092", False, "given"),
        (None, True, "container"),
        ("", True, "container"),
        (None, False, "here"),
    ],
)
def test_a_server_that_is_given_wins_then_a_container(given: str | None, answers: bool, expected: str) -> None:
    assert containers.place(given, lambda: answers) == expected


def test_where_one_is_given_no_engine_is_asked() -> None:
    assert containers.place("localhost:9092", refused_to_be_asked) == "given"


def refused_to_be_asked() -> bool:
    raise AssertionError
