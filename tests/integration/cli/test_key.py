"""`streamhub key`."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from streamhub.keys import key
from tests.integration.cli.conftest import Run, rows


@pytest.fixture
def my_org(run: Run) -> None:
    assert run("org", "add", "my-org").exit_code == 0


def made(run: Run, *options: str) -> str:
    result = run("key", "create", "--org", "my-org", "--scope", "events:read", *options)
    assert result.exit_code == 0, result.output
    return result.stdout.removesuffix("\n")


def test_a_key_is_printed_alone_and_its_id_is_named_beside_it(run: Run, my_org: None) -> None:
    result = run("key", "create", "--org", "my-org", "--scope", "events:read")
    presented = key.read(result.stdout.removesuffix("\n"))
    assert presented is not None
    assert f"streamhub key revoke {presented.id}" in result.stderr


def test_the_list_tells_all_of_a_key_but_the_key(run: Run, my_org: None) -> None:
    token = made(run, "--scope", "events:write,analytics:read", "--test", "--expires", "90d")
    result = run("key", "list", "--json")
    (row,) = rows(result)
    created_at, expires_at = (datetime.fromisoformat(row.pop(name)) for name in ("created_at", "expires_at"))
    assert abs(expires_at - created_at - timedelta(days=90)) < timedelta(seconds=1)
    assert row == {
        "id": token[6:18], "org": "my-org", "scopes": ["events:read", "analytics:read", "events:write"], "test": True,
        "state": "active", "revoked_at": None, "last_used_at": None,
    }  # fmt: skip
    for text in (result.output, run("key", "list").output):
        assert token[6:18] in text
        assert token[19:] not in text


def test_a_key_without_an_end_never_expires(run: Run, my_org: None) -> None:
    made(run)
    assert rows(run("key", "list", "--json"))[0]["expires_at"] is None


def test_the_list_may_be_of_one_organization(run: Run, my_org: None) -> None:
    made(run)
    run("org", "add", "other")
    assert rows(run("key", "list", "--org", "other", "--json")) == []
    assert run("key", "list", "--org", "nothing").exit_code == 1


def test_a_revoked_key_is_listed_as_such_and_stays_as_it_was_revoked_first(run: Run, my_org: None) -> None:
    token = made(run)
    first = rows(run("key", "revoke", token[6:18], "--json"))
    assert first[0]["state"] == "revoked"
    assert rows(run("key", "revoke", token[6:18], "--json")) == first
    assert rows(run("key", "list", "--json")) == first


def test_a_key_that_was_found_somewhere_is_revoked_by_its_whole_text(run: Run, my_org: None) -> None:
    assert rows(run("key", "revoke", made(run), "--json"))[0]["state"] == "revoked"


def test_to_revoke_what_is_no_key_fails_and_says_where_the_ids_are(run: Run, my_org: None) -> None:
    result = run("key", "revoke", "nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "'nothing': streamhub key list" in result.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--scope", "event:read"), "'event:read'; did you mean events:read?"),
        (("--scope", "events:read,zebra"), "'zebra'; the scopes are events:read, "),
        (("--scope", ""), "a key needs a scope"),
        ((), "--scope"),
        (("--scope", "events:read", "--expires", "90"), "'90' is not a duration"),
        (("--scope", "events:read", "--expires", "99999d"), "at most 36500d"),
    ],
)
def test_a_wrong_option_is_wrong_usage_and_named(run: Run, options: tuple[str, ...], named: str) -> None:
    result = run("key", "create", "--org", "my-org", *options)
    assert result.exit_code == 2
    assert named in result.stderr


def test_a_key_for_an_unknown_organization_is_refused(run: Run) -> None:
    result = run("key", "create", "--org", "nothing", "--scope", "events:read")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "streamhub org add nothing" in result.stderr
