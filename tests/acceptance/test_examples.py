"""The programs of examples/ and the client commands, as a user runs them, against one demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import sync_playwright

from servers.clusters import cluster_directory
from servers.ports import free_port
from tests.acceptance.conftest import ROOT, Running, none_left
from tests.integration.browser.conftest import program

EXAMPLES = ROOT / "examples"
PATIENCE = 20.0  # seconds
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PAGES = free_port()
SKU = "JKT-DOWN-BLU-S"


class Demo:
    """A demo without traffic, and what it prints to be pasted."""

    def __init__(self, running: Running, environment: dict[str, str]) -> None:
        running.wait_for(r"^A token for northwind-coffee:\n  .+$")
        lines = dict(re.findall(r"^(\S.*):\n  (.+)$", running.output, re.MULTILINE))
        self._psql = lines["Write to the shop by hand"].partition(" -c ")[0]
        self.database = self._psql.split()[-1]
        self.environment = {
            **environment,
            "STREAMHUB_URL": f"http://127.0.0.1:{environment['STREAMHUB_PORT']}",
            "STREAMHUB_ORG": "acme-outfitters",
            "STREAMHUB_TOKEN": lines["A token for acme-outfitters, good for a day"].removeprefix("TOKEN="),
            "PYTHONUNBUFFERED": "1",
        }

    def sql(self, statement: str) -> str:
        """What it returns."""
        command = ["bash", "-c", f'{self._psql} -Atqc "$1"', "bash", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.strip()


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    data_dir = cluster_directory()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMHUB_")}
    environment = {
        **clean, "STREAMHUB_DATA_DIR": str(data_dir), "STREAMHUB_PORT": str(free_port()), "PYTHONPATH": str(ROOT),
        "STREAMHUB_CORS_ORIGINS": f"http://127.0.0.1:{PAGES}",
    }  # fmt: skip
    running = Running("demo", "--no-traffic", "--for", "600", environment=environment)
    try:
        yield Demo(running, environment)
    finally:
        running.end(signal.SIGINT)
        assert none_left(data_dir)
        shutil.rmtree(data_dir)


Start = Callable[..., Running]


@pytest.fixture
def start(demo: Demo) -> Iterator[Start]:
    """Start an example; it is killed at the end of the test."""
    started: list[Running] = []

    def run(name: str, *arguments: str, **environment: str) -> Running:
        program = [sys.executable, str(EXAMPLES / name)]
        started.append(Running(*arguments, environment={**demo.environment, **environment}, program=program))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.wait()


def eventually(condition: Callable[[], bool], what: str) -> None:
    gives_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < gives_up, f"not within {PATIENCE} s: {what}"
        time.sleep(0.05)


def test_the_cache_has_at_the_end_what_the_table_has(demo: Demo, start: Start) -> None:
    cache = start("cache.py", "--database", demo.database)
    cache.wait_for(r"^\d+ prices after a replay of \d+ events$")
    demo.sql("UPDATE shop.prices SET amount = amount + 1 WHERE organization_id = 'org_acme'")
    demo.sql(f"DELETE FROM shop.prices p USING shop.skus s WHERE s.id = p.sku_id AND s.code = '{SKU}'")
    assert cache.end(signal.SIGINT) == 0, cache.output
    assert cache.output.endswith("11 prices, as in the table\n")


def test_the_audit_tells_each_change_of_a_resource_and_that_there_are_no_more(demo: Demo, start: Start) -> None:
    found = demo.sql("SELECT id, amount, amount + 2 FROM shop.prices WHERE organization_id = 'org_acme' LIMIT 1")
    id_, before, after = found.split("|")
    demo.sql(f"UPDATE shop.prices SET amount = {after} WHERE id = '{id_}'")

    def reported() -> bool:
        audit = start("audit.py", "prices", id_)
        assert audit.exit_code(PATIENCE) == 0, audit.output
        return f"    amount: {before} → {after}\n" in audit.output and "WAS" not in audit.output

    eventually(reported, "the change is published")


def test_the_index_finds_what_changed_while_it_ran_and_while_it_did_not(
    demo: Demo, start: Start, tmp_path: Path
) -> None:
    port = free_port()

    def indexing() -> Running:
        return start("search_index.py", "--port", str(port), "--file", str(tmp_path / "goods.sqlite3"))

    def finds(text: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/search?q={quote(text)}", timeout=PATIENCE) as answer:
                return [found["code"] for found in json.load(answer)] == [SKU]
        except urllib.error.URLError:
            return False  # it does not listen yet

    def rename(name: str) -> None:
        demo.sql(f"UPDATE shop.skus SET name = '{name}' WHERE code = '{SKU}' AND NOT test")

    first = indexing()
    eventually(lambda: finds("down jack"), f"what was there before is found: {first.output}")
    rename("Parka, orange")
    eventually(lambda: finds("orange"), f"what changed is found: {first.output}")
    first.process.kill()
    first.process.wait()
    rename("Anorak, purple")
    second = indexing()
    eventually(lambda: finds("purple"), f"what changed meanwhile is found: {second.output}")
    assert not finds("orange")


def test_the_receiver_takes_what_the_hub_delivers_and_listen_forwards_and_refuses_what_is_not_signed(
    demo: Demo, start: Start
) -> None:
    port = free_port()
    adding = Running(
        "webhook", "add", f"http://127.0.0.1:{port}/webhooks", "--org", "acme-outfitters", "--events", "prices.*",
        "--json", environment=demo.environment,
    )  # fmt: skip
    assert adding.exit_code(PATIENCE) == 0, adding.output
    (secret,) = re.findall(r'"secret": "(whsec_[^"]+)"', adding.output)
    receiver = start("webhook_receiver.py", "--port", str(port), WEBHOOK_SECRET=f"{SECRET} {secret}")
    receiver.wait_for("Running on", within=60)
    demo.sql("UPDATE shop.prices SET amount = amount + 1000 WHERE organization_id = 'org_acme'")
    receiver.wait_for(r"^prices\.update  \w+  \{'amount': \{'from': '[\d.]+', 'to': '1\d\d\d", within=60)
    listening = Running(
        "listen", "--types", "stock_items.*", "--forward-to", f"127.0.0.1:{port}/webhooks", "--secret", SECRET,
        environment=demo.environment,
    )  # fmt: skip
    try:
        listening.wait_for("^listening", within=60)
        demo.sql("UPDATE shop.stock_items SET quantity = quantity + 1000 WHERE organization_id = 'org_acme'")
        receiver.wait_for(r"^stock_items\.update  \w+  \{'quantity': \{'from': \d+, 'to': 1\d\d\d\}", within=60)
        listening.wait_for(r"quantity \d+ → 1\d\d\d  \[204 No Content in \d+ ms\]$", within=60)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/webhooks", data=b"{}", timeout=PATIENCE)
        receiver.wait_for("^refused: the delivery has no webhook-id", within=60)
        assert listening.end(signal.SIGINT) == 0
    finally:
        listening.process.kill()
        listening.process.wait()


def test_the_dashboard_counts_what_happens_and_shows_the_newest_stock(demo: Demo, start: Start) -> None:
    chromium = program()
    pages = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(PAGES), "--bind", "127.0.0.1", "--directory", str(EXAMPLES)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with sync_playwright() as playwright:
            options = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=chromium, args=options)
            page = browser.new_page()
            page.set_default_timeout(PATIENCE * 1000)
            eventually(lambda: answers(f"http://127.0.0.1:{PAGES}/"), "the page is served")
            page.goto(f"http://127.0.0.1:{PAGES}/dashboard.html")
            page.fill("[name=url]", demo.environment["STREAMHUB_URL"])
            page.fill("[name=token]", demo.environment["STREAMHUB_TOKEN"])
            page.click("button")
            page.get_by_role("status").get_by_text("connected", exact=True).wait_for()
            demo.sql("UPDATE shop.stock_items SET quantity = 4321 WHERE organization_id = 'org_acme' AND NOT test")
            page.locator("#types tr", has_text="stock_items.update").wait_for()
            page.locator("#stock td", has_text="4321").first.wait_for()
            page.locator("#newest td", has_text="quantity 4321").first.wait_for()
            browser.close()
    finally:
        pages.kill()
        pages.wait()


def test_client_commands_make_a_token_for_a_hub_on_this_machine(demo: Demo) -> None:
    environment = {name: value for name, value in demo.environment.items() if name != "STREAMHUB_TOKEN"}

    def run(*arguments: str, **more: str) -> tuple[int, str]:
        running = Running(*arguments, environment={**environment, **more})
        return running.exit_code(PATIENCE), running.output

    published = ("publish", "query.received", "--data", '{"query": 7}', "--publish-id", "query-7")
    assert run(*published) == run(*published) == (0, "query-7\n")

    def replayed() -> bool:
        code, output = run("replay", "--from", "1h", "--types", "query.*")
        assert code == 0, output
        return output.count('"publish_id":"query-7","data":{"query": 7}}') == 1

    eventually(replayed, "the event is published")
    code, output = run("listen", STREAMHUB_ORG="")
    assert code == 2
    assert "this hub has acme-outfitters, demo-monitor, northwind-coffee" in output


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE):
            return True
    except urllib.error.URLError:
        return False


def test_each_example_is_named_in_their_readme_and_in_a_test_here() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".html"}}
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"\]\((\w+\.(?:py|html))\)", readme)) == names
    assert all(f'{name}"' in Path(__file__).read_text("utf-8") for name in names)
