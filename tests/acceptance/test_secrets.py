"""What no command and no page ever says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from click.testing import CliRunner, Result

from servers.ports import free_port
from streamhub.cli import main
from tests.acceptance.conftest import Running

Start = Callable[..., Running]
Run = Callable[..., subprocess.CompletedProcess[str]]
Bash = Callable[..., str]

COMMANDS = (
    "migrate",
    "migrate --source shop",
    "org list",
    "org add my-org",
    "capture list",
    "capture list --source shop",
    "capture add public.skus --org my-org --resource-type skus",
    "capture backfill public.skus",
    "token --org my-org",
    "key create --org my-org --scope events:read",
    "key list",
    "doctor",
    "doctor --json",
)
PLANTED = "pl4nted"
WRONG = (
    "postgresql://hub:pl4nted@127.0.0.1:{port}/hub",
    "postgresql://hub@127.0.0.1:{port}/hub?password=pl4nted",
    "postgresql://hub:x@pl4nted@127.0.0.1:{port}/hub",
    "postgresql://hub:x/pl4nted@127.0.0.1:{port}/hub",
    "postgresql://hub:pl4nted/hub",
    "postgresql://hub@127.0.0.1:{port}/hub?pl4nted",
    "host=127.0.0.1 port={port} password=pl4nted",
)


def run(command: str, environment: dict[str, str]) -> Result:
    """In this process: another one would say the same, and takes a second to start."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith("STREAMHUB_"))
    return CliRunner().invoke(main, command.split(), env={**unset, **environment}, prog_name="streamhub")


@pytest.fixture
def wrong(environment: dict[str, str], data_dir: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of a hub and a source at a URL of WRONG."""
    url = request.param.format(port=free_port())
    return {
        **environment, "STREAMHUB_SIGNING_KEY_FILE": str(data_dir / "key.pem"), "STREAMHUB_DATABASE_URL": url,
        "STREAMHUB_SOURCE_URLS": f"shop={url}",
    }  # fmt: skip


@pytest.mark.from_nothing
@pytest.mark.parametrize(
    ("wrong", "command"),
    [(url, command) for url in WRONG for command in (COMMANDS if url in WRONG[:2] else ("doctor",))],
    indirect=["wrong"],
)
def test_no_command_that_fails_says_a_secret(wrong: dict[str, str], command: str) -> None:
    done = run(command, wrong)
    assert PLANTED not in done.output
    assert isinstance(done.exception, SystemExit)  # what is expected to fail, and no traceback
    assert done.exit_code in (1, 2)


@pytest.mark.from_nothing
@pytest.mark.parametrize("wrong", WRONG[2:], indirect=True)
def test_no_server_that_cannot_start_says_a_secret(
    streamhub: Run, environment: dict[str, str], wrong: dict[str, str]
) -> None:
    environment.update(wrong)
    done = streamhub("serve")
    assert PLANTED not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 2)


def test_no_command_and_no_page_that_works_says_a_secret(
    start: Start, bash: Bash, environment: dict[str, str], data_dir: Path, database_url: str
) -> None:
    parts = urlsplit(database_url)
    secret = parts.password
    assert secret is not None
    bare = parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}")
    url = bare._replace(query=f"password={quote(secret)}").geturl()
    environment["STREAMHUB_DATABASE_URL"] = url
    environment["STREAMHUB_SOURCE_URLS"] = f"gone=postgresql://hub:{PLANTED}@127.0.0.1:{free_port()}/shop"
    environment["STREAMHUB_SIGNING_KEY_FILE"] = str(data_dir / "key.pem")
    environment["STREAMHUB_JWT_ISSUERS"] = "https://issuer.example"
    environment["STREAMHUB_JWT_JWKS_URL"] = f"http://reader:{PLANTED}@127.0.0.1:{free_port()}/keys"
    serving = start("serve")
    at = serving.wait_for(r"gateway, relay and webhooks on (http://\S+)$", within=60)[1]
    said = ""
    for command in ("migrate", "org add my-org", "org list", "capture list", "capture list --source gone", "doctor"):
        said += run(command, environment).output
    foreign = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.AAAA"
    key = run("key create --org my-org --scope events:read", environment).stdout.strip()
    for command in ("key list", "key list --json", f"key create --org my-org --scope {key}", f"key revoke {key}"):
        said += run(command, environment).output
    for path in ("/my-org", f"/{key}", f"/my-org/replays/{key}", f"/my-org?{key}=1"):
        said += bash(f'curl -s -H "Authorization: Bearer {key}" {at}{path}')
    for path in ("/-/ready", "/-/metrics", "/-/healthy", "/my-org"):
        said += bash(f'curl -s -H "Authorization: Bearer {foreign}" {at}{path}')
    serving.end(signal.SIGTERM)
    said += serving.output
    assert "127.0.0.1" in said
    assert secret not in said
    assert PLANTED not in said
    assert re.fullmatch(r"sh_ak_\w{12}_\w{43}", key)
    assert key[19:] not in said
