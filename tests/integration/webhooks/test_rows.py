"""Rows written in SQL: one that cannot be used, or that a transaction has open, concerns no other endpoint."""

import logging
from typing import Any

import asyncpg
import pytest

from streamhub.core.view import View
from streamhub.webhooks import census, fan_out, store
from streamhub.webhooks.bodies import Bodies
from streamhub.webhooks.census import WebhookCensus
from streamhub.webhooks.deliveries import Endpoint, Endpoints
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start


async def update(owner: Owner, id_: str, set_: str, *values: Any) -> None:
    await owner.pool.execute(f"UPDATE streamhub_hub.webhook_endpoints SET {set_} WHERE id = $1", id_, *values)


@pytest.mark.parametrize("wrong", ["filters = '{\"path_prefix\": 5}'", "secret = 'whsec_#'"])
async def test_events_of_a_row_that_cannot_be_used_are_kept_until_it_can(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start,
    caplog: pytest.LogCaptureFixture, wrong: str,
) -> None:  # fmt: skip
    id_, secret = (made := await owner.add())["id"], made["secret"]
    await owner.add("/b")
    await update(owner, id_, wrong)
    with caplog.at_level(logging.WARNING, "streamhub.webhooks"):
        await start()
        kept = await history.append(organization, 3)
        await receiver.has(3, "/b")
    found = await owner.get(id_)
    assert (found["state"], receiver.on("/a")) == ("disabled", [])
    assert found["disabled_reason"].startswith("its row cannot be used: ")
    assert [each.getMessage().count(id_) for each in caplog.records] == [1]
    await update(owner, id_, "filters = '{}', secret = $2", secret)
    assert {each.id for each in await receiver.has(3)} == {each.id for each in kept.events}
    assert (await owner.get(id_))["state"] == "ok"


async def test_a_row_that_cannot_be_used_counts_as_disabled_and_what_waits_for_it_is_not_late(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    receiver.answers["/a"] = 500
    id_ = (await owner.add())["id"]
    await start(schedule=(60,))
    await history.append(organization)
    await receiver.has(1)
    await update(owner, id_, "secret = 'x'")

    async def is_disabled() -> bool:
        return (await taken_census(owner)).endpoints == {"ok": 0, "failing": 0, "disabled": 1}

    await eventually(is_disabled)
    await owner.pool.execute("UPDATE streamhub_hub.webhook_deliveries SET due_at = clock_timestamp() - interval '1 h'")
    assert (await taken_census(owner)).due_age == 0.0


async def taken_census(owner: Owner) -> WebhookCensus:
    row = await owner.pool.fetchrow(census.CENSUS)
    assert row is not None
    return census.census_of(row)


async def test_an_endpoint_that_raises_is_disabled_and_the_page_goes_on(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = (await owner.add())["id"]
    await owner.add("/b")
    real = fan_out._has_path

    def has_path(endpoint: Endpoint, view: View) -> bool:
        if endpoint.id == id_:
            raise RuntimeError("a filter of it")
        return real(endpoint, view)

    with monkeypatch.context() as patched:
        patched.setattr(fan_out, "_has_path", has_path)
        await start()
        await history.append(organization, 2)
        await receiver.has(2, "/b")

        async def is_disabled() -> bool:
            return not (await owner.get(id_))["enabled"]

        await eventually(is_disabled, 15)
    assert "could not be matched" in (await owner.get(id_))["disabled_reason"]
    await update(owner, id_, "enabled = true")
    await receiver.has(2)


async def test_an_endpoint_that_raised_and_is_enabled_at_once_gets_what_it_missed(
    history: History, organization: int, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = (await owner.add())["id"]
    fanning = fan_out.FanOut(owner.pool, Endpoints(), Bodies(owner.pool))
    await fanning.step()

    def has_path(*_: object) -> bool:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(fan_out, "_has_path", has_path)
        await history.append(organization)
        await fanning.step()
    assert not (await owner.get(id_))["enabled"]
    await update(owner, id_, "enabled = true")
    await fanning.step()
    assert (await fanning.step_again()).deliveries == 1


async def test_an_attempt_that_cannot_be_made_counts_as_a_failed_one(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(*_: object) -> dict[str, str]:
        raise AttributeError

    monkeypatch.setattr("streamhub.core.signing.sign", sign)
    id_ = (await owner.add())["id"]
    await start(schedule=())
    await history.append(organization)

    async def has_failed() -> bool:
        return bool(await owner.log(id_, "failed"))

    await eventually(has_failed)
    ((attempt,),) = [each["attempts"] for each in await owner.log(id_)]
    assert attempt["error"] == "the attempt was not possible, the log of the hub says why"


async def test_a_rotation_ends_secrets_that_are_none(owner: Owner) -> None:
    id_ = (await owner.add())["id"]
    await update(owner, id_, "secret = 'x', old_secrets = '[{\"secret\": 5}]'")
    async with owner.pool.acquire() as connection:
        rotated = await store.rotate_secret(connection, owner.scope, id_)
    assert rotated is not None
    assert rotated["state"] == "ok"


async def test_an_open_transaction_delays_its_own_endpoint_alone(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    """Neither what other endpoints are changed to nor what came of their attempts waits."""
    receiver.answers["/a"] = 410
    id_ = (await owner.add())["id"]
    other = (await owner.add("/b"))["id"]
    await start()
    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE streamhub_hub.webhook_endpoints SET description = 'x' WHERE id = $1", id_)
        await history.append(organization)
        await receiver.has(1)
        await receiver.has(1, "/b")
        await owner.add("/c")

        async def is_written() -> bool:
            return bool(await owner.log(other, "delivered"))

        await eventually(is_written, 3)
        assert await owner.log(id_, "failed") == []

    async def is_disabled() -> bool:
        return (await owner.get(id_))["disabled_reason"] == "it answered 410"

    await eventually(is_disabled)
    assert len(receiver.on("/a")) == 1


@pytest.mark.parametrize("time", ["infinity", "-infinity", "4713-01-01 BC", "294276-01-01"])
async def test_a_time_that_no_answer_can_show_is_refused(owner: Owner, time: str) -> None:
    id_ = (await owner.add())["id"]
    with pytest.raises(asyncpg.CheckViolationError):
        await update(owner, id_, f"created_at = '{time}'")
    async with owner.pool.acquire() as connection:
        await store.send_test(connection, owner.scope, id_)
    for column in ("created_at", "due_at", "not_before"):
        if (column, time) != ("due_at", "infinity"):
            with pytest.raises(asyncpg.CheckViolationError):
                await owner.pool.execute(f"UPDATE streamhub_hub.webhook_deliveries SET {column} = '{time}'")
    assert len(await owner.log(id_)) == 1
