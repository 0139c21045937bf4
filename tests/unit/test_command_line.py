"""What the command line says of its commands, and what it imports to say it."""

from __future__ import annotations

import re
import subprocess
import sys

from click.testing import CliRunner

from streamhub.cli import COMMANDS, HIDDEN, main

# What client commands start without: the server, and libraries that take long to import.
HEAVY = (
    "aiohttp", "aiokafka", "asyncpg", "cryptography", "jwt", "msgspec", "prometheus_client", "pydantic", "rich",
    "uvloop", "streamhub.gateway",
)  # fmt: skip


def test_the_help_has_a_whole_sentence_for_each_command() -> None:
    told = CliRunner().invoke(main, ["--help"]).stdout
    rows = dict(re.findall(r"^  (\w+)  +(\S.*)$", told.partition("Commands:\n")[2], re.MULTILINE))
    assert rows == COMMANDS
    assert all(summary.endswith(".") for summary in rows.values())


def test_each_command_that_the_help_has_is_there_and_no_other() -> None:
    for name in (*COMMANDS, *HIDDEN):
        result = CliRunner().invoke(main, [name, "--help"])
        assert (result.exit_code, "..." in result.stdout.partition("Commands:")[2]) == (0, False), name
    assert CliRunner().invoke(main, ["nothing", "--help"]).exit_code == 2


def test_help_and_client_commands_start_without_the_server_and_what_takes_long_to_import() -> None:
    program = """
import sys
from click.testing import CliRunner
from streamhub.cli import main
for arguments in (["--help"], ["listen", "--help"], ["replay", "--help"], ["publish", "--help"], ["token", "--help"]):
    assert CliRunner().invoke(main, arguments).exit_code == 0, arguments
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.split())
    assert imported.isdisjoint(HEAVY), imported.intersection(HEAVY)


def test_what_a_command_needs_and_is_not_installed_is_told_in_a_sentence() -> None:
    program = """
import sys
sys.modules["aiohttp"] = None
sys.argv = ["streamhub", "listen", "--token", "sh_ak_x", "--org", "my-org"]
from streamhub.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("streamhub: the command needs aiohttp, which is not installed: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_client_that_was_given_a_token_runs_without_the_server() -> None:
    program = """
import sys
from click.testing import CliRunner
from streamhub.cli import main
arguments = ["listen", "--url", "http://127.0.0.1:1", "--token", "sh_ak_x", "--org", "my-org"]
assert CliRunner().invoke(main, arguments).exit_code == 1
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stdout.split())
    assert "aiohttp" in imported
    assert imported.isdisjoint(set(HEAVY) - {"aiohttp"}), imported.intersection(HEAVY)
