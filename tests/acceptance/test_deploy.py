"""What is deployed by: the image, docker-compose.yml, deploy/kubernetes, and time-outs that have to fit one another.

Docker and a cluster are not needed here: schemas, linters and this project's own rules are what is checked.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from streamhub.config import PREFIX, Settings
from streamhub.core.durations import parse_duration
from streamhub.gateway import server
from streamhub.gateway.streams import channel
from streamhub.leases import held
from streamhub.runtime import process
from tests.acceptance.conftest import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
# What a hub may take after the last stream was drained: both listeners, the lease, relay and connections.
AFTER_DRAINING = 2 * server.SHUTDOWN_WITHIN + held.TIMEOUT + 2 * process.STOPS_WITHIN


def seconds(duration: str) -> float:
    return parse_duration(duration).total_seconds()


def compose() -> Any:
    """docker-compose.yml as it is with an .env of nothing but passwords."""
    text = re.sub(
        r"\$\{\w+(?::?-(?P<default>[^}]*)|:\?[^}]*)\}",
        lambda match: "secret" if match["default"] is None else match["default"],
        (ROOT / "docker-compose.yml").read_text(),
    )
    return yaml.safe_load(text)


def deployment(name: str) -> Any:
    (found,) = [
        each for each in yaml.safe_load_all((DEPLOY / f"kubernetes/{name}.yaml").read_text())
        if each["kind"] == "Deployment"
    ]  # fmt: skip
    return found["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_manifests_are_what_kubernetes_takes(path: Path, version: str) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_kustomization_names_the_files_and_the_image_that_there_are() -> None:
    kustomization = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())
    (image,) = kustomization["images"]
    assert {*kustomization["resources"], "migrate.yaml"} == {path.name for path in MANIFESTS}
    assert f"image: {image['newName']}:{image['newTag']}" in (DEPLOY / "kubernetes/migrate.yaml").read_text()
    for role in ("relay", "gateway", "webhooks"):
        assert deployment(role)["containers"][0]["image"] == image["name"]


def test_the_compose_file_keeps_to_its_specification() -> None:
    PyCompose.from_json(json.dumps(compose())).validate()


def test_the_compose_file_names_only_services_volumes_and_files_that_there_are() -> None:
    file = compose()
    for name, service in file["services"].items():
        assert service.get("depends_on", {}).keys() <= file["services"].keys(), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in file["volumes"] or (ROOT / source).is_file(), volume


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path",
    [
        *(ROOT / name for name in ("Dockerfile", "docker-compose.yml", ".env.example")),
        *(path for path in sorted(DEPLOY.rglob("*")) if path.is_file()),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_it_sets_only_settings_that_there_are(path: Path) -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]+", path.read_text())) <= settings


def test_docker_waits_for_longer_than_a_hub_takes_to_stop() -> None:
    for name in ("relay", "gateway", "webhooks"):
        service = compose()["services"][name]
        drain_time = seconds(service["environment"]["STREAMHUB_DRAIN_TIME"])
        assert seconds(service["stop_grace_period"]) >= drain_time + AFTER_DRAINING, name


def test_kubernetes_waits_for_longer_than_a_hub_takes_to_stop() -> None:
    found = re.search(r"^STREAMHUB_DRAIN_TIME=(\w+)$", (DEPLOY / "kubernetes/settings.env").read_text(), re.MULTILINE)
    assert found is not None
    drain_time = seconds(found[1])
    for name in ("relay", "gateway", "webhooks"):
        pod = deployment(name)
        hook = pod["containers"][0].get("lifecycle", {"preStop": {"exec": {"command": ["sleep", "0"]}}})
        before = float(hook["preStop"]["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] >= before + drain_time + AFTER_DRAINING, name


@pytest.mark.parametrize(
    ("path", "pattern", "count"),
    [
        ("nginx/streamhub.conf", r"^\s*(?:send_timeout|proxy_read_timeout) (\w+);$", 2),
        ("haproxy/haproxy.cfg", r"^\s*timeout (?:client|server) (\w+)$", 2),
        ("envoy/envoy.yaml", r"^\s*stream_idle_timeout: (\w+)$", 1),
    ],
)
def test_no_proxy_gives_up_a_stream_before_the_gateway_does(path: str, pattern: str, count: int) -> None:
    found = re.findall(pattern, (DEPLOY / path).read_text(), re.MULTILINE)
    assert len(found) == count
    for timeout in found:
        assert seconds(timeout) > channel.NO_PROGRESS > Settings().heartbeat_interval.total_seconds()
