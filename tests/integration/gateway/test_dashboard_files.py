"""The dashboard's files: which are served, under which policy, and that they are ours or carry their licence."""

import re
from pathlib import Path
from typing import Final

import pytest
from hatchling.builders.wheel import WheelBuilder

from streamhub.gateway.pages import dashboard_files
from tests.integration.conftest import Client, Hub

FOLDER: Final = Path(dashboard_files.__file__).parent / "dashboard"


async def test_the_page_has_a_policy_that_lets_in_nothing_but_its_own_files(hub: Hub) -> None:
    answer = await hub.get("/-/dashboard")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert set(re.findall(r"\s((?:https?:|\*)\S*)", policy)) == set()
    assert "<style" not in answer.body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.body.decode())


async def test_the_hubs_own_address_leads_to_the_dashboard(hub: Hub) -> None:
    answer = await hub.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (answer.status, answer.headers["location"]) == (302, "-/dashboard")


async def test_a_browser_that_asks_without_a_token_is_told_of_the_dashboard(hub: Hub) -> None:
    answer = await (await Client.open(hub.port, "/dashboard", [("Accept", "text/html,*/*;q=0.8")])).answer()
    assert (answer.status, answer.codes) == (401, ["MISSING_TOKEN"])
    assert "/-/dashboard" in answer.body.decode()


async def test_every_file_of_the_table_is_served_with_its_type(hub: Hub) -> None:
    for name, (_, media_type) in dashboard_files.FILES.items():
        answer = await hub.get(f"/-/dashboard/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, f"{media_type}; charset=utf-8"), name


@pytest.mark.parametrize("name", ["index.html", "..%2Ffiles.py", "vendor%2FLICENSE-htm", "app"])
async def test_no_other_file_is_served(hub: Hub, name: str) -> None:
    assert (await hub.get(f"/-/dashboard/{name}")).codes == ["NOT_FOUND"]


def test_every_file_of_the_folder_is_in_the_table_or_a_licence() -> None:
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    served = {path for path, _ in dashboard_files.FILES.values()}
    assert found == served | {"index.html"} | {f"vendor/LICENSE-{name}" for name in ("htm", "preact", "uplot")}


def test_the_wheel_has_every_file() -> None:
    builder = WheelBuilder(str(FOLDER.parents[3]))
    packed = {each.relative_path for each in builder.recurse_included_files()}
    files = {path.relative_to(FOLDER.parents[3]).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert len(files) > 20
    assert files <= packed


def test_every_module_that_a_module_imports_is_served() -> None:
    for path in FOLDER.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text("utf-8")):
            assert name in dashboard_files.FILES, f"{path.name} imports {name}"


def test_no_module_makes_html_of_text() -> None:
    unsafe = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySetInnerHTML|localStorage|eval\("
    )
    assert [path.name for path in FOLDER.glob("*.js") if unsafe.search(path.read_text("utf-8"))] == []
