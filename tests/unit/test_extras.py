"""What is asked for and not installed is told in a sentence."""

import sys
from typing import Any

import pytest

from streamhub.config import Settings
from streamhub.errors import UserError
from streamhub.runtime import process


def test_a_gateway_that_is_to_follow_kafka_without_the_client_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("streamhub.kafka.tail", "streamhub.kafka.consumer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    settings: Any = Settings(kafka_bootstrap_servers=("localhost:9092",))
    pool: Any = None
    with pytest.raises(UserError, match=r"needs aiokafka, .* pip install '\.\[kafka\]'"):
        process._tail(settings, "postgresql://hub@localhost/hub", pool)
