"""`streamhub replay`, on a fake hub."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamhub.testing import FakeHub
from streamhub.testing.fixtures import fake_hub
from tests.support.client_commands import PATIENCE, Cli, environment

__all__ = ["fake_hub"]

DAY = datetime(2026, 11, 22, tzinfo=UTC)
WINDOW = ("--from", "2026-11-22T00:00:00Z", "--to", "2026-11-23T00:00:00Z")
COMPLETE = r"complete: {} events{}, number and sha256 are right; \d+\.\d s\n"


@pytest.fixture
def cli(fake_hub: FakeHub) -> Cli:
    """Of a hub with ten events of a day, an hour between each."""
    for hour in range(10):
        type_ = "orders.create" if hour % 2 else "skus.update"
        fake_hub.publish(
            type_, resource_id=str(hour), resource={"n": hour, "price": 9.5}, published_at=DAY + timedelta(hours=hour)
        )
    return Cli(fake_hub)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "day.ndjson"


def lines_of(cli: Cli) -> list[str]:
    """What a whole replay prints."""
    return [event.frame.decode().partition("data: ")[2].strip() for event in cli.fake._server.events]


def test_it_prints_the_events_of_a_window_as_they_came_and_that_they_are_all(cli: Cli) -> None:
    result = cli.run("replay", *WINDOW)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == lines_of(cli)
    assert re.fullmatch(COMPLETE.format(10, ""), result.stderr), result.stderr


def test_types_filters_and_resources_are_the_hubs_to_judge(cli: Cli) -> None:
    result = cli.run("replay", *WINDOW, "--types", "skus.*", "--filter", "resource.n_gt=5")
    assert [json.loads(line)["resource"]["n"] for line in result.stdout.splitlines()] == [6, 8]
    result = cli.run("replay", "--resource-type", "orders", "--resource-ids", "3,4")
    assert [json.loads(line)["resource_id"] for line in result.stdout.splitlines()] == ["3"]
    assert "date_from" not in cli.fake.seen[-1].query


def test_times_may_be_how_long_ago_they_are(cli: Cli) -> None:
    cli.run("replay", "--from", "2h")
    start, end = (datetime.fromisoformat(cli.fake.seen[0].query[name]) for name in ("date_from", "date_to"))
    assert abs((end - start) - timedelta(hours=2)) < timedelta(seconds=10)
    assert abs(datetime.now(UTC) - end) < timedelta(seconds=PATIENCE)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --from, and --to (default: now), or --resource-type with --resource-ids"),
        (["--to", "2026-11-22T10:00:00Z"], "give --from"),
        (["--from", "yesterday"], "'yesterday' is no time"),
        (["--from", "2026-11-22T10:00:00"], "give one with its zone"),
        (["--from", "2h", "--types", "skus.*,"], "such as skus.update"),
        (["--resource-ids", "a"], "--resource-ids needs --resource-type"),
    ],
)
def test_wrong_usage_is_named_before_anything_is_asked(cli: Cli, arguments: list[str], says: str) -> None:
    result = cli.run("replay", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in " ".join(result.stderr.split())
    assert cli.fake.seen == []


def test_what_the_hub_refuses_is_one_sentence(cli: Cli) -> None:
    cli.fake.refuse(400, "DATE_RANGE_TOO_LONG", detail="8 days; at most 7 are allowed.")
    result = cli.run("replay", *WINDOW)
    assert (result.exit_code, result.stderr) == (1, "streamhub: DATE_RANGE_TOO_LONG: 8 days; at most 7 are allowed.\n")


def test_what_a_hub_says_of_its_parameters_is_told_of_the_options(cli: Cli) -> None:
    cli.fake.refuse(
        400, "DATE_RANGE_TOO_LONG", detail="date_from and date_to are 30 days apart; at most 7 are allowed."
    )
    result = cli.run("replay", "--from", "30d")
    said = "streamhub: DATE_RANGE_TOO_LONG: --from and --to are 30 days apart; at most 7 are allowed.\n"
    assert (result.exit_code, result.stderr) == (1, said)


def test_the_last_seven_days_are_no_longer_than_that(cli: Cli) -> None:
    cli.run("replay", "--from", "7d")
    start, end = (datetime.fromisoformat(cli.fake.seen[0].query[name]) for name in ("date_from", "date_to"))
    assert end - start == timedelta(days=7)


def test_where_no_hub_is_it_says_so_at_once(cli: Cli) -> None:
    result = cli.run("replay", *WINDOW, "--url", "http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "streamhub: 127.0.0.1:1 cannot be reached: Connection refused\n"


def test_a_connection_that_is_cut_is_told_and_resumed_by_itself(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.01)  # of the pause between tries
    cli.fake.break_after(2000, kind="replay")
    result = cli.run("replay", *WINDOW)
    assert result.stdout.splitlines() == lines_of(cli)
    assert "the next try is in" in result.stderr
    assert result.exit_code == 0


# -- a file


def test_a_file_has_the_events_and_can_be_asked_for_again(cli: Cli, out: Path) -> None:
    for kept in ("", f" after 10 that {out} had"):
        result = cli.run("replay", *WINDOW, "-o", str(out))
        assert (result.exit_code, result.stdout) == (0, "")
        assert re.fullmatch(COMPLETE.format(0 if kept else 10, kept), result.stderr), result.stderr
        assert out.read_text().splitlines() == lines_of(cli)


@pytest.mark.parametrize("cut_off", [0, 1, 10, 250])
def test_an_interrupted_file_keeps_what_is_whole_and_goes_on_after_it(cli: Cli, out: Path, cut_off: int) -> None:
    whole = "\n".join(lines_of(cli)) + "\n"
    half = "\n".join(lines_of(cli)[:5]) + "\n"
    out.write_text(whole[: len(half) + cut_off])
    result = cli.run("replay", *WINDOW, "-o", str(out))
    assert re.fullmatch(COMPLETE.format(5, f" after 5 that {out} had"), result.stderr), result.stderr
    assert out.read_text() == whole
    assert cli.fake.seen[-1].last_event_id == cli.fake._server.events[4].id


def test_a_replay_that_ends_early_is_exit_code_1_and_is_resumed_by_the_same_command(cli: Cli, out: Path) -> None:
    cli.fake.fail_replay(4, "REPLAY_CANCELLED")
    result = cli.run("replay", *WINDOW, "-o", str(out))
    assert result.exit_code == 1
    assert result.stderr == (
        "streamhub: the replay is incomplete after 4 events: REPLAY_CANCELLED: The test said so.; run the same command "
        "to resume\n"
    )
    assert out.read_text().splitlines() == lines_of(cli)[:4]
    assert cli.run("replay", *WINDOW, "-o", str(out)).exit_code == 0
    assert out.read_text().splitlines() == lines_of(cli)


@pytest.mark.parametrize("false", [{"sha256": "0" * 64}, {"events": 7}])
def test_what_is_not_what_was_sent_is_exit_code_1_and_does_not_stay_in_the_file(
    cli: Cli, out: Path, false: dict[str, object]
) -> None:
    out.write_text("".join(f"{line}\n" for line in lines_of(cli)[:2]))
    cli.fake.end_falsely(**false)
    result = cli.run("replay", *WINDOW, "-o", str(out))
    assert result.exit_code == 1
    assert f"it is removed from {out}, run the same command again" in result.stderr
    assert out.read_text().splitlines() == lines_of(cli)[:2]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--from", "2026-11-22T01:00:00Z", "--to", "2026-11-23T00:00:00Z"], "before 2026-11-22T01:00:00Z"),
        (["--from", "2026-11-22T00:00:00Z", "--to", "2026-11-22T02:00:00Z"], "not before 2026-11-22T02:00:00Z"),
        ([*WINDOW, "--types", "orders.*"], "a skus.update"),
        ([*WINDOW, "--filter", "resource.price_not_eq=9.5"], "left out by the filters"),
        ([*WINDOW, "--resource-type", "orders"], "of the resource type skus"),
        (["--resource-type", "skus", "--resource-ids", "7"], "of the resource 0"),
        ([*WINDOW, "--org", "another-org"], "of the organization my-org"),
    ],
)
def test_the_file_of_another_replay_is_left_as_it_is(cli: Cli, out: Path, arguments: list[str], why: str) -> None:
    out.write_text("".join(f"{line}\n" for line in lines_of(cli)[:3]))
    before = out.read_bytes()
    result = cli.run("replay", *arguments, "-o", str(out))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"streamhub: {out} is the file of another replay (")
    assert f"is {why}): name another file, or remove it\n" in result.stderr
    assert out.read_bytes() == before
    assert cli.fake.seen == []


@pytest.mark.parametrize("text", ["my notes", "my notes\n", '{"id":"x"}\n', "\n", "\0" * 100])
def test_a_file_of_something_else_is_left_as_it_is(cli: Cli, out: Path, text: str) -> None:
    out.write_text(text)
    result = cli.run("replay", *WINDOW, "-o", str(out))
    assert result.exit_code == 1
    assert result.stderr == (
        f"streamhub: line 1 of {out} is no event, so it is not the file of a replay: name another file\n"
    )
    assert out.read_text() == text


def test_a_file_whose_events_are_not_in_order_is_left_as_it_is(cli: Cli, out: Path) -> None:
    first, second, *_ = lines_of(cli)
    out.write_text(f"{first}\n{second}\n{first}\n")
    result = cli.run("replay", *WINDOW, "-o", str(out))
    assert f"line 3 of {out} is not newer than the one before" in result.stderr
    assert len(out.read_text().splitlines()) == 3


def test_two_commands_do_not_write_one_file(cli: Cli, out: Path) -> None:
    with out.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        result = cli.run("replay", *WINDOW, "-o", str(out))
    assert result.stderr == f"streamhub: another process writes {out}: wait for its end, or name another file\n"


def test_a_file_that_cannot_be_written_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    result = cli.run("replay", *WINDOW, "-o", str(tmp_path / "missing" / "day.ndjson"))
    assert result.stderr == (
        f"streamhub: cannot write {tmp_path / 'missing' / 'day.ndjson'}: No such file or directory\n"
    )
    full = cli.run("replay", *WINDOW, "-o", "/dev/full")
    assert full.stderr == "streamhub: cannot write /dev/full: No space left on device\n"


def test_a_dash_is_stdout(cli: Cli) -> None:
    assert cli.run("replay", *WINDOW, "-o", "-").stdout.splitlines() == lines_of(cli)


# -- a process of its own


def test_a_terminal_gets_progress_with_rate_and_time_left_on_stderr(cli: Cli, out: Path) -> None:
    """It is stopped half way, where the bar says so."""
    size = sum(len(event.frame) for event in cli.fake._server.events[:6])
    cli.fake.break_after(size + 400, "stall", kind="replay")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamhub", "replay", *WINDOW, "-o", str(out)],
        env=environment(cli.fake, TERM="xterm-256color", COLUMNS="100"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while not re.search(rb"2\d %.*\d events, [\d,]+ a second.*left", seen):
        seen += os.read(master, 4096)
    process.send_signal(2)
    while True:
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
    process.communicate(timeout=PATIENCE)
    os.close(master)
    assert process.returncode == 130
    assert b"run the same command to resume" in seen
    assert b"Traceback" not in seen
    assert out.read_text().splitlines() == lines_of(cli)[: len(out.read_text().splitlines())]
