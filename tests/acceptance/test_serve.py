"""`streamhub serve` as an operator runs it, and the documented way from an own table to its events."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamhub.cli import main
from streamhub.embedded import installed_binaries, url_of_running
from tests.acceptance.conftest import ROOT, Running, none_left
from tests.support.hub import alive

Start = Callable[..., Running]
Run = Callable[..., subprocess.CompletedProcess[str]]
Bash = Callable[..., str]

LISTENS = r"gateway, relay and webhooks on (http://\S+)$"


@pytest.fixture
def psql(data_dir: Path) -> Callable[[str], str]:
    def run(statement: str) -> str:
        url = url_of_running(data_dir)
        assert url is not None
        done = subprocess.run(
            [str(installed_binaries() / "psql"), url, "-v", "ON_ERROR_STOP=1", "-c", statement],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout

    return run


@pytest.mark.from_nothing
def test_from_an_empty_directory_to_the_events_of_an_own_table(
    start: Start, streamhub: Run, bash: Bash, psql: Callable[[str], str], data_dir: Path
) -> None:
    serving = start("serve")
    url = serving.wait_for(LISTENS)[1]
    psql("CREATE TABLE public.skus (id text PRIMARY KEY, code text, price numeric)")
    for command in ("org add my-org", "capture add public.skus --org my-org --resource-type skus"):
        done = streamhub(*command.split())
        assert done.returncode == 0, done.stderr
    token = streamhub("token", "--org", "my-org").stdout.strip()
    psql("INSERT INTO public.skus VALUES ('a', 'TSHIRT', 12.50)")
    replay = f'curl -sN -H "Authorization: Bearer {token}" "{url}/my-org/replay?resource_type_eq=skus&resource_id_in=a"'
    heard = bash(
        f"for _ in 1 2 3 4 5; do {replay} | tee /dev/stderr | grep -q ^id && {replay} && break; sleep 0.3; done"
    )
    (data,) = [json.loads(line[6:]) for line in heard.splitlines() if '"type":"skus.create"' in line]
    assert data["resource"] == {"id": "a", "code": "TSHIRT", "price": "12.50"}
    assert serving.end(signal.SIGTERM) == 0, serving.output
    assert none_left(data_dir, within=0.5)


def test_its_metrics_tell_of_what_its_relay_published(
    start: Start, streamhub: Run, bash: Bash, psql: Callable[[str], str]
) -> None:
    serving = start("serve")
    url = serving.wait_for(LISTENS)[1]
    psql("CREATE TABLE public.skus (id text PRIMARY KEY)")
    streamhub("org", "add", "my-org")
    streamhub("capture", "add", "public.skus", "--org", "my-org", "--resource-type", "skus")
    psql("INSERT INTO public.skus VALUES ('a')")
    wanted = "streamhub_commit_to_publish_seconds_count 1.0"
    scrape = f"curl -s {url}/-/metrics"
    found = bash(f"for _ in $(seq 50); do {scrape} | grep -q '^{wanted}' && break; sleep 0.1; done; {scrape}")
    for line in (wanted, "streamhub_published_events_total 1.0", "streamhub_relay_led 1.0"):
        assert line in found.splitlines()


def test_a_second_start_serves_what_the_first_one_stored(
    start: Start, streamhub: Run, bash: Bash, psql: Callable[[str], str]
) -> None:
    serving = start("serve")
    serving.wait_for(LISTENS)
    psql("CREATE TABLE public.skus (id text PRIMARY KEY)")
    streamhub("org", "add", "my-org")
    streamhub("capture", "add", "public.skus", "--org", "my-org", "--resource-type", "skus")
    psql("INSERT INTO public.skus SELECT generate_series(1, 50)")
    serving.process.kill()
    serving = start("serve")
    url = serving.wait_for(LISTENS)[1]
    token = streamhub("token", "--org", "my-org").stdout.strip()
    ids = ",".join(str(n) for n in range(1, 51))
    query = (
        f'curl -sN -H "Authorization: Bearer {token}" "{url}/my-org/replay?resource_type_eq=skus&resource_id_in={ids}"'
    )
    heard = bash(f"for _ in $(seq 30); do n=$({query} | grep -c ^id); [ $n = 50 ] && break; sleep 0.5; done; echo $n")
    assert heard == "50\n"


def test_several_workers_and_their_database_end_with_the_parent_that_is_killed(start: Start, data_dir: Path) -> None:
    serving = start("serve", "--workers", "2")
    serving.wait_for(r"gateway, relay and webhooks in 2 workers on http://\S+$")
    workers = [int(pid) for pid in re.findall(r"worker \d \(process (\d+)\) serves$", serving.output, re.MULTILINE)]
    serving.process.kill()
    assert len(workers) == 2
    assert none_left(data_dir)
    assert not any(alive(pid) for pid in workers)


def test_logs_are_json_where_they_are_asked_for(start: Start, environment: dict[str, str], data_dir: Path) -> None:
    environment["STREAMHUB_LOG_FORMAT"] = "json"
    serving = start("serve")
    serving.wait_for("gateway, relay and webhooks on")
    assert serving.end(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in serving.output.splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert lines[-1]["message"] == "stopped"


def test_an_external_database_without_issuer_and_key_refuses_to_start(
    streamhub: Run, environment: dict[str, str]
) -> None:
    environment["STREAMHUB_DATABASE_URL"] = "postgresql://127.0.0.1:1/hub"
    result = streamhub("serve")
    assert result.returncode == 1
    assert "STREAMHUB_JWT_ISSUERS" in result.stderr


def test_a_misspelt_setting_is_told_of_at_the_start(start: Start, environment: dict[str, str]) -> None:
    environment["STREAMHUB_RETENTOIN"] = "7d"
    start("serve").wait_for("STREAMHUB_RETENTOIN is not a setting; did you mean STREAMHUB_RETENTION")


def test_the_pages_for_users_name_only_commands_and_options_that_there_are() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [
        block
        for page in pages
        for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    commands = [found[1] for line in lines if (found := re.search(r"(?:^|\(|\s)streamhub ([a-z][^)|&#]*)", line))]
    assert commands
    helps: dict[tuple[str, ...], str] = {}
    for command in commands:
        words = shlex.split(command)
        path = tuple(words[: 2 if words[0] in ("org", "capture", "key", "webhook") else 1])
        if path not in helps:
            help_ = CliRunner().invoke(main, [*path, "--help"])
            assert help_.exit_code == 0, command
            helps[path] = help_.stdout
        for option in [word.partition("=")[0] for word in words if word.startswith("--")]:
            assert option in helps[path], command
