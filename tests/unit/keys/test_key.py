"""The text of an API key."""

import hashlib
import re

import pytest

from streamhub.keys import key


def test_a_key_has_an_id_and_a_secret_of_256_bits() -> None:
    assert re.fullmatch(r"sh_ak_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}", key.new())


def test_no_two_keys_share_an_id() -> None:
    assert len({key.new()[6:18] for _ in range(100)}) == 100


def test_a_key_is_read_as_its_id_and_the_sha256_of_its_whole_text() -> None:
    made = key.new()
    presented = key.read(made)
    assert presented == (made[6:18], hashlib.sha256(made.encode()).digest())


def test_only_the_whole_secret_is_the_key() -> None:
    made = key.new()
    presented, changed = key.read(made), key.read(made[:-1] + ("a" if made[-1] != "a" else "b"))
    assert presented is not None
    assert changed is not None
    assert presented.is_key_of(presented.hash)
    assert not changed.is_key_of(presented.hash)


@pytest.mark.parametrize("change", ["{}x", " {}", "{}\n", "x{}"])
def test_what_is_not_of_a_keys_form_is_none(change: str) -> None:
    assert key.read(change.format(key.new())) is None


@pytest.mark.parametrize("around", ["{}", "/my-org/{}?x", '"{}",', "{}.", "…{} …"])
def test_a_masked_text_has_nothing_of_a_key_and_all_of_the_rest(around: str) -> None:
    assert key.masked(around.format(key.new())) == around.format("sh_ak_…")


def test_what_is_masked_already_stays_so() -> None:
    masked = key.masked(f"/{key.new()}/x")
    assert key.masked(masked) == masked


def test_a_part_of_a_key_is_masked_too() -> None:
    assert key.masked(f"/{key.new()[:30]}/x") == "/sh_ak_…/x"
