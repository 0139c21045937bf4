"""`streamhub webhook`."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import Result

from streamhub.cli import webhook
from tests.integration.cli.conftest import Run, rows

URL = "https://shop.example.com/hooks"


@pytest.fixture(autouse=True)
def my_org(run: Run) -> None:
    assert run("org", "add", "my-org").exit_code == 0


def added(run: Run, *options: str, url: str = URL) -> dict[str, Any]:
    (row,) = rows(run("webhook", "add", url, "--org", "my-org", "--events", "*", "--json", *options))
    return row


def listed(run: Run) -> list[dict[str, Any]]:
    return rows(run("webhook", "list", "--org", "my-org", "--json"))


def refused(result: Result, code: int, said: str) -> None:
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert said in result.stderr


def test_the_secret_is_printed_once_and_in_no_list(run: Run) -> None:
    result = run("webhook", "add", URL, "--org", "my-org", "--events", "skus.*")
    (secret,) = [word for word in result.stdout.split() if word.startswith("whsec_")]
    assert "shown once" in result.stderr
    for options in ((), ("--json",)):
        assert secret not in run("webhook", "list", "--org", "my-org", *options).output


def test_an_endpoint_is_listed_as_it_was_made(run: Run) -> None:
    added(
        run, "--events", "skus.*,prices.update", "--filter", "resource.status_eq=a=b", "--order", "resource", "--test",
        "--max-in-flight", "3", "--rate", "5", "--header", "X-Shop=42", "--no-auto-disable", "--description", "shop",
        "--owner-email", "owner@example.com",
    )  # fmt: skip
    (row,) = listed(run)
    assert {name: row[name] for name in row if name not in ("id", "created_at")} == {
        "org": "my-org", "test": True, "url": URL, "events": ["*", "skus.*", "prices.update"],
        "filters": {"resource.status_eq": "a=b"}, "order": "resource", "max_in_flight": 3, "rate": 5,
        "headers": {"X-Shop": "42"}, "auto_disable": False, "description": "shop", "owner_email": "owner@example.com",
        "enabled": True, "state": "ok", "disabled_reason": None,
    }  # fmt: skip


def test_a_type_that_no_event_had_is_told_and_the_endpoint_is_made(run: Run) -> None:
    result = run("webhook", "add", URL, "--org", "my-org", "--events", "prices,*")
    assert (result.exit_code, len(listed(run))) == (0, 1)
    assert "no event of type prices was seen in 30 days" in result.stderr


def test_an_endpoint_is_disabled_and_enabled(run: Run) -> None:
    id_ = added(run)["id"]
    assert rows(run("webhook", "disable", id_, "--json"))[0]["state"] == "disabled"
    assert rows(run("webhook", "enable", id_, "--json"))[0]["state"] == "ok"


def test_a_recovery_enables_an_endpoint(run: Run) -> None:
    id_ = added(run)["id"]
    run("webhook", "disable", id_)
    assert rows(run("webhook", "recover", id_, "--since", "2h", "--json"))[0]["state"] == "ok"


def test_a_new_secret_is_another_one(run: Run) -> None:
    made = added(run)
    result = run("webhook", "rotate-secret", made["id"], "--json")
    (row,) = rows(result)
    assert row["secret"].startswith("whsec_")
    assert row["secret"] != made["secret"]
    assert "24 hours" in result.stderr


def test_an_endpoint_that_was_removed_is_not_listed(run: Run) -> None:
    result = run("webhook", "remove", added(run)["id"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert listed(run) == []


def test_a_test_that_no_process_delivers_fails_and_stays_pending(run: Run) -> None:
    id_ = added(run)["id"]
    result = run("webhook", "test", id_, "--wait", "0")
    assert result.exit_code == 1
    assert "is a process with the role webhooks up?" in result.stderr
    (delivery,) = rows(run("webhook", "deliveries", id_, "--json"))
    assert (delivery["type"], delivery["state"], delivery["attempts"]) == ("webhook.test", "pending", [])
    assert rows(run("webhook", "deliveries", id_, "--state", "failed", "--json")) == []
    assert rows(run("webhook", "deliveries", id_, "--before", delivery["id"], "--json")) == []
    assert "webhook.test  pending" in run("webhook", "deliveries", id_).stdout
    result = run("webhook", "retry", id_, delivery["id"])
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_disabled_endpoint_is_not_tested(run: Run) -> None:
    id_ = added(run)["id"]
    run("webhook", "disable", id_)
    refused(run("webhook", "test", id_), 1, f"streamhub webhook enable {id_}")
    refused(run("webhook", "retry", id_, "nothing"), 1, f"streamhub webhook enable {id_}")


def test_a_recovery_of_what_is_still_to_come_is_wrong_usage(run: Run) -> None:
    refused(run("webhook", "recover", added(run)["id"], "--since", "2300-01-01T00:00:00Z"), 2, "lies in the future")


@pytest.mark.parametrize("given", ["nothing", "00000000-0000-4000-8000-000000000000"])
def test_an_unknown_endpoint_is_named_with_where_the_ids_are(run: Run, given: str) -> None:
    refused(run("webhook", "enable", given), 1, f"{given!r}: streamhub webhook list --org SLUG")


def test_an_unknown_delivery_is_named(run: Run) -> None:
    refused(run("webhook", "retry", added(run)["id"], "nothing"), 1, "no delivery 'nothing'")


def test_every_fault_of_an_endpoint_is_wrong_usage_and_named(run: Run) -> None:
    given = ("--events", "*", "--rate", "0", "--filter", "colour_eq=1")
    result = run("webhook", "add", "ftp://a", "--org", "my-org", *given)
    assert result.exit_code == 2
    for named in ("'ftp://a'", "rate is 0", "colour_eq"):
        assert named in result.stderr


def test_http_is_for_loopback_in_development_alone(run: Run, tmp_path: Any) -> None:
    arguments = ("webhook", "add", "http://127.0.0.1:1/a", "--org", "my-org", "--events", "*")
    assert run(*arguments).exit_code == 0
    refused(run(*arguments, SIGNING_KEY_FILE=None), 2, "http is for loopback in development alone")


def test_an_unknown_organization_is_refused(run: Run) -> None:
    for arguments in (("add", URL, "--events", "*"), ("list",)):
        refused(run("webhook", *arguments, "--org", "nothing"), 1, "streamhub org add nothing")


@pytest.mark.parametrize(
    ("status", "error", "shown"),
    [
        (204, None, "204 in 8 ms"),
        (400, "it answered 400", "400 in 8 ms"),
        (301, "it answered 301, and redirects are not followed", "301 (redirects are not followed) in 8 ms"),
        (None, "it refused the connection", "it refused the connection"),
    ],
)
def test_the_last_attempt_is_shown_in_one_way(status: int | None, error: str | None, shown: str) -> None:
    assert webhook._shown([{"status": status, "error": error, "latency_ms": 8}]) == shown
