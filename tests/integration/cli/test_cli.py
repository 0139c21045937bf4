"""The command line, command by command, on a real database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import asyncpg
import jwt
import pytest
from click.testing import Result

from servers.ports import free_port
from streamhub import capture, organizations
from streamhub.capture import CaptureSpec
from streamhub.cli import COMMANDS
from streamhub.config import load
from streamhub.errors import UserError
from streamhub.runtime.process import prepare
from streamhub.tokens import DevelopmentKey
from tests.conftest import database_of
from tests.integration.cli.conftest import Run, rows
from tests.support.stage import until


@pytest.fixture
async def table(connection: asyncpg.Connection) -> str:
    await connection.execute(
        """CREATE TABLE public.skus (id text PRIMARY KEY, code text, price numeric, organization_id text,
                                     is_test boolean, gone_at timestamptz)"""
    )
    return "public.skus"


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert (f"  {command} " in result.stdout) is (command != "worker")


@pytest.mark.parametrize(
    "command",
    ["demo", "serve", "migrate", "org add", "org list", "org set", "capture add", "capture list", "capture remove",
     "capture backfill",
     "token", "key create", "key list", "key revoke", "listen", "replay", "publish", "doctor"],
)  # fmt: skip
def test_the_help_of_a_command_has_an_example_of_it(run: Run, command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"streamhub {command}" in result.stdout.partition("Usage:")[2].partition("\n")[2]


def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    assert run("frobnicate").exit_code == 2


def test_a_wrong_setting_is_one_sentence_on_stderr(run: Run) -> None:
    result = run("org", "list", PORT="abc")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("streamhub: STREAMHUB_PORT is 'abc'")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "65", "x", "2.0", ""])
def test_workers_are_a_number_from_1_to_64(run: Run, number: str) -> None:
    result = run("serve", f"--workers={number}")
    assert result.exit_code == 2
    assert f"{number!r} is not a number from 1 to 64, for example 4" in result.stderr


def test_a_port_that_is_taken_is_one_sentence_before_any_worker_starts(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--workers", "2", PORT=str(port))
        operations = run("serve", "--workers", "2", PORT=str(free_port()), OPERATIONS_PORT=str(port))
    for each in (result, operations):
        assert each.exit_code == 1
        assert each.stderr.startswith(f"streamhub: cannot listen on 127.0.0.1 port {port} ")
        assert each.stderr.count("\n") == 1


def test_a_database_that_does_not_answer_is_named_without_its_password(run: Run) -> None:
    result = run("org", "list", DATABASE_URL="postgresql://hub:hunter2@127.0.0.1:1/hub")
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr
    assert "hunter2" not in result.stderr


async def test_a_database_without_our_schema_points_to_migrate(run: Run, connection: asyncpg.Connection) -> None:
    await connection.execute("DROP SCHEMA streamhub_hub CASCADE")
    result = run("org", "list")
    assert result.exit_code == 1
    assert "streamhub migrate" in result.stderr


def test_org_add_list_and_set(run: Run) -> None:
    assert run("org", "add", "my-org", "--id", "org_1").exit_code == 0
    assert run("org", "add", "other", "--no-enterprise").exit_code == 0
    assert run("org", "set", "my-org", "--slug", "new").exit_code == 0
    assert rows(run("org", "list", "--json")) == [
        {"slug": "new", "id": "org_1", "enterprise": True, "slug_is_made": False},
        {"slug": "other", "id": "other", "enterprise": False, "slug_is_made": False},
    ]


def test_a_table_has_a_line_for_each_row_with_its_columns_named(run: Run) -> None:
    run("org", "add", "my-org")
    header, line = run("org", "list").stdout.splitlines()
    assert header.split() == ["slug", "id", "enterprise", "slug_is_made"]
    assert line.split() == ["my-org", "my-org", "yes", "no"]


def test_org_add_of_a_taken_slug_fails(run: Run) -> None:
    run("org", "add", "my-org", "--id", "org_1")
    result = run("org", "add", "my-org", "--id", "org_2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "taken" in result.stderr


def test_org_set_without_a_change_is_wrong_usage(run: Run) -> None:
    assert run("org", "set", "my-org").exit_code == 2


def test_capture_add_with_every_option_is_listed_as_given(run: Run, table: str) -> None:
    result = run(
        "capture", "add", table, "--resource-type", "products", "--id-column", "id",
        "--org-column", "organization_id", "--test-column", "is_test", "--exclude", "price", "--redact", "code",
        "--type-name", "update=product.updated", "--type-name", "destroy=product.gone",
        "--anonymization-column", "gone_at",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == "skus added\n"
    (listed,) = rows(run("capture", "list", "--json"))
    assert listed == {
        "table": "skus",
        "resource_type": "products",
        "key": ["id"],
        "organization": "column organization_id",
        "environment": "column is_test",
        "excluded": ["price"],
        "redacted": ["code"],
        "type_names": {"update": "product.updated", "destroy": "product.gone"},
        "anonymization_column": "gone_at",
    }


def test_capture_add_for_one_organization_and_the_test_environment(run: Run, table: str) -> None:
    run("org", "add", "my-org", "--id", "org_1")
    assert run("capture", "add", table, "--resource-type", "skus", "--org", "my-org", "--test").exit_code == 0
    (listed,) = rows(run("capture", "list", "--json"))
    assert (listed["organization"], listed["environment"]) == ("org_1", "test")


def test_capture_add_again_changes_nothing_or_replaces(run: Run, table: str) -> None:
    run("org", "add", "my-org")
    options = ("capture", "add", table, "--resource-type", "skus", "--org", "my-org")
    assert run(*options).stdout == "skus added\n"
    assert run(*options).stdout == "skus unchanged\n"
    assert run(*options, "--exclude", "price").stdout == "skus replaced\n"


def test_capture_remove(run: Run, table: str) -> None:
    run("org", "add", "my-org")
    run("capture", "add", table, "--resource-type", "skus", "--org", "my-org")
    assert run("capture", "remove", table).stdout == "skus removed\n"
    assert rows(run("capture", "list", "--json")) == []
    assert run("capture", "remove", table).exit_code == 1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--org", "my-org", "--org-column", "organization_id"), 2, "either --org-column"),
        ((), 2, "either --org-column"),
        (("--org", "my-org", "--test", "--test-column", "is_test"), 2, "either --test-column"),
        (("--org", "my-org", "--type-name", "update"), 2, "EVENT=TYPE"),
        (("--org", "my-org", "--type-name", "change=a.b"), 2, "EVENT=TYPE"),
        (("--org", "my-org", "--type-name", "update=sku.gap"), 2, "control frame"),
        (("--org", "my-org", "--exclude", "a,,b"), 2, "empty name"),
        (("--org", "nobody"), 1, "streamhub org add nobody"),
        (("--org", "my-org", "--exclude", "prize"), 1, "did you mean 'price'"),
    ],
)
def test_what_capture_add_refuses(run: Run, table: str, options: tuple[str, ...], code: int, words: str) -> None:
    run("org", "add", "my-org")
    result = run("capture", "add", table, "--resource-type", "skus", *options)
    assert result.exit_code == code
    assert words in result.stderr
    assert rows(run("capture", "list", "--json")) == []


def test_a_source_is_found_by_its_name(run: Run, database_url: str, table: str) -> None:
    run("org", "add", "my-org")
    sources = f"shop={database_url}"
    options = ("--source", "shop", "--resource-type", "skus", "--org", "my-org")
    assert run("capture", "add", table, *options, SOURCE_URLS=sources).exit_code == 0
    assert len(rows(run("capture", "list", "--source", "shop", "--json", SOURCE_URLS=sources))) == 1


def test_a_source_that_is_not_named_in_the_settings_is_refused(run: Run) -> None:
    result = run("capture", "list", "--source", "shop", SOURCE_URLS="crm=postgresql://h/crm")
    assert result.exit_code == 1
    assert "no source 'shop' (it has: crm)" in result.stderr


async def test_capture_backfill_tells_what_it_sent(run: Run, table: str, connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO skus (id, organization_id) SELECT i, 'org_1' FROM generate_series(1, 1500) i")
    run("capture", "add", table, "--org-column", "organization_id", "--resource-type", "skus")
    (result,) = rows(run("capture", "backfill", table, "--json"))
    assert {name: result[name] for name in ("table", "rows", "resumed")} == {
        "table": "skus",
        "rows": 1500,
        "resumed": 0,
    }
    assert result["rows_per_second"] > 0
    assert await connection.fetchval("SELECT count(*) FROM streamhub.outbox WHERE origin LIKE '%:b::'") == 1500
    assert "1500" in run("capture", "backfill", table, "--restart").stdout


def test_capture_backfill_of_a_table_that_is_not_captured_fails(run: Run, table: str) -> None:
    result = run("capture", "backfill", table)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is not captured: streamhub capture list shows what is" in result.stderr


async def test_an_interrupted_backfill_says_that_it_can_go_on(
    table: str, connection: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    await capture.add(connection, CaptureSpec(table, resource_type="skus", organization_column="organization_id"))
    await connection.execute(
        "INSERT INTO skus (id, organization_id) SELECT i, 'org_1' FROM generate_series(1, 13000) i"
    )
    await connection.execute("DELETE FROM streamhub.outbox")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streamhub", "capture", "backfill", table, stderr=asyncio.subprocess.PIPE,
        # A shell starts background processes with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {"STREAMHUB_DATABASE_URL": database_url, "STREAMHUB_SIGNING_KEY_FILE": str(tmp_path / "key")},
    )  # fmt: skip
    # No relay runs, so it stops adding at the first batch above 10,000 and waits.
    waits = "SELECT count(*) > 10000 FROM streamhub.outbox"
    await until(lambda: connection.fetchval(waits), "the first batch above 10,000 is there")
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 130
    assert said.decode().splitlines()[-1] == "stopped: run the same command to resume"
    assert await connection.fetchval("SELECT position FROM streamhub.backfills") is not None


async def test_migrate_names_what_it_applied_and_then_has_nothing_to_do(
    run: Run, connection: asyncpg.Connection
) -> None:
    await connection.execute("DROP SCHEMA streamhub_hub, streamhub CASCADE")
    first, second = run("migrate"), run("migrate")
    assert first.stdout.splitlines()[0] == "hub/0001_initial.sql"
    assert "source/0001_initial.sql" in first.stdout
    assert (second.exit_code, second.stdout) == (0, "")
    assert "up to date" in second.stderr


async def test_migrate_of_a_source_touches_the_sources_schema_alone(
    run: Run, connection: asyncpg.Connection, database_url: str
) -> None:
    await connection.execute("DROP SCHEMA streamhub_hub, streamhub CASCADE")
    result = run("migrate", "--source", "shop", SOURCE_URLS=f"shop={database_url}")
    assert result.stdout.splitlines()[0] == "source/0001_initial.sql"
    assert await connection.fetchval("SELECT to_regnamespace('streamhub_hub') IS NULL")


async def test_a_token_is_signed_with_the_development_key(
    run: Run, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await organizations.add(connection, "my-org", "org_1")
    result = run("token", "--org", "my-org", "--test", "--scope", "events:read analytics:read", "--ttl", "90s")
    assert result.exit_code == 0, result.output
    key = DevelopmentKey.load_or_create(tmp_path / "key.pem")
    claims = jwt.decode(result.stdout.strip(), key.public_pem, algorithms=["RS512"])
    assert claims["organization"] == {"id": "org_1", "slug": "my-org", "enterprise": True}
    assert (claims["test"], claims["scope"]) == (True, "events:read analytics:read")
    assert claims["exp"] - claims["iat"] == 90


def test_a_token_for_an_unknown_organization_is_refused(run: Run) -> None:
    result = run("token", "--org", "nobody")
    assert result.exit_code == 1
    assert "streamhub org add nobody" in result.stderr


def test_a_token_needs_a_duration_with_its_unit(run: Run) -> None:
    assert run("token", "--org", "my-org", "--ttl", "2").exit_code == 2


def test_in_production_there_is_no_key_to_sign_with(run: Run) -> None:
    result = run("token", "--org", "my-org", SIGNING_KEY_FILE=None)
    assert result.exit_code == 1
    assert "STREAMHUB_SIGNING_KEY_FILE=" in result.stderr


def states(result: Result) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in json.loads(result.stdout):
        found.setdefault(row["check"], set()).add(row["state"])
    return found


def test_doctor_fails_where_no_relay_leads_and_says_what_to_run(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 1
    assert "fail  relay" in result.stdout
    assert "→ streamhub serve" in result.stdout


def test_doctor_finds_a_fresh_hub_in_order_but_for_what_does_not_run(run: Run, table: str) -> None:
    run("org", "add", "my-org")
    run("capture", "add", table, "--resource-type", "skus", "--org", "my-org")
    found = states(run("doctor", "--json"))
    assert {check for check, state in found.items() if state == {"ok"}} >= {
        "settings", "database", "migrations", "keys", "capture", "organizations", "outbox", "clock", "incidents",
    }  # fmt: skip
    assert found["relay"] == {"fail"}


async def test_migrate_takes_an_outbox_over_from_another_hub(run: Run, connection: asyncpg.Connection) -> None:
    former = "11111111-1111-1111-1111-111111111111"
    await connection.execute("UPDATE streamhub.relay_mark SET hub = $1", former)
    assert states(run("doctor", "--json"))["owner"] == {"fail"}
    result = run("migrate", "--take-over")
    assert result.exit_code == 0
    assert former in result.stderr
    assert states(run("doctor", "--json"))["owner"] == {"ok"}


async def test_doctor_names_a_disabled_trigger(run: Run, table: str, connection: asyncpg.Connection) -> None:
    run("org", "add", "my-org")
    run("capture", "add", table, "--resource-type", "skus", "--org", "my-org")
    await connection.execute('ALTER TABLE public.skus DISABLE TRIGGER "!streamhub"')
    result = run("doctor", "--json")
    (finding,) = [row for row in json.loads(result.stdout) if row["check"] == "capture"]
    assert finding["state"] == "fail"
    assert "ENABLE ALWAYS TRIGGER" in finding["fix"]


async def test_doctor_names_a_migration_that_is_missing(run: Run, connection: asyncpg.Connection) -> None:
    await connection.execute("DROP SCHEMA streamhub CASCADE")
    result = run("doctor", "--json")
    assert states(result)["migrations"] == {"fail"}
    assert "streamhub migrate" in result.stdout


async def test_doctor_tells_of_an_outbox_that_no_relay_empties(
    run: Run, table: str, connection: asyncpg.Connection
) -> None:
    run("org", "add", "my-org")
    run("capture", "add", table, "--resource-type", "skus", "--org", "my-org")
    await connection.execute("INSERT INTO public.skus (id) SELECT generate_series(1, 3)::text")
    await connection.execute("UPDATE streamhub.outbox SET created_at = clock_timestamp() - interval '10 minutes'")
    result = run("doctor", "--json")
    (finding,) = [row for row in json.loads(result.stdout) if row["check"] == "outbox"]
    assert finding["state"] == "fail"
    assert finding["detail"].startswith("hub: 3 rows")


async def test_doctor_shows_the_newest_incidents(run: Run, connection: asyncpg.Connection) -> None:
    await connection.execute(
        """INSERT INTO streamhub_hub.incidents (kind, source, detail)
           SELECT 'clock', 'hub', n::text FROM generate_series(1, 9) AS n"""
    )
    shown = [row for row in json.loads(run("doctor", "--json").stdout) if row["check"] == "incidents"]
    assert [row["state"] for row in shown] == ["warn"] * 6
    assert "4 more" in shown[-1]["detail"]


async def test_doctor_finds_history_in_the_default_partition(run: Run, connection: asyncpg.Connection) -> None:
    await connection.execute(
        """INSERT INTO streamhub_hub.history (organization, id, test, resource_key, type, frame)
           VALUES (1, '01a202b2-c57c-7000-8000-00000000002a', false, 0, 'a', '')"""
    )
    assert "fail" in states(run("doctor", "--json"))["history"]


def test_doctor_tells_of_a_source_that_cannot_be_reached(run: Run) -> None:
    result = run("doctor", "--json", SOURCE_URLS="shop=postgresql://127.0.0.1:1/shop")
    assert "fail" in states(result)["database"]


def test_doctor_tells_of_a_database_that_cannot_be_reached(run: Run) -> None:
    result = run("doctor", DATABASE_URL="postgresql://127.0.0.1:1/hub")
    assert result.exit_code == 1
    assert result.stdout.startswith("fail  database")


def test_doctor_creates_no_hub_where_there_is_none(run: Run, tmp_path: Path) -> None:
    result = run("doctor", "--fix", "--data-dir", str(tmp_path / "typo"), DATABASE_URL=None)
    assert (result.exit_code, f"there is no hub in {tmp_path / 'typo'}" in result.stdout) == (1, True)
    assert not (tmp_path / "typo").exists()


def test_doctor_names_a_variable_that_is_no_setting(run: Run) -> None:
    result = run("doctor", "--json", PROT="1")
    assert any("STREAMHUB_PROT is not a setting" in row["detail"] for row in json.loads(result.stdout))


def test_doctor_fails_where_serve_would_refuse_to_start(run: Run) -> None:
    assert states(run("doctor", "--json", SIGNING_KEY_FILE=None))["keys"] == {"fail"}


async def test_a_source_that_is_the_hubs_own_database_is_relayed_once(database_url: str) -> None:
    settings = load(database_url=database_url, source_urls=f"shop={database_url}")
    assert [source.name for source in await prepare(settings, database_url)] == ["hub"]


async def test_two_names_for_one_database_are_refused(
    database_url: str, postgres_url: str, connection: asyncpg.Connection
) -> None:
    other = database_of(postgres_url, "postgres")
    settings = load(database_url=database_url, source_urls=f"shop={other} again={other}")
    with pytest.raises(UserError, match="'again' under another name"):
        await prepare(settings, database_url)


async def test_a_source_that_is_away_is_left_to_the_relay(database_url: str) -> None:
    settings = load(database_url=database_url, source_urls="shop=postgresql://127.0.0.1:1/shop")
    assert [source.name for source in await prepare(settings, database_url)] == ["hub", "shop"]
