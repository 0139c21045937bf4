"""Real Kafka brokers as child processes, from Maven Central, for where no other broker is given.

The jars are downloaded once, into a directory outside the repository. A broker is a KRaft node, listens on free ports
of the loopback interface, and is killed when the thread that started it ends.
"""

import base64
import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self
from xml.sax.saxutils import escape

from servers.access import SECURED, Access
from servers.ports import free_port
from servers.tied import tied

VERSION: Final = "4.1.1"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamhub" / f"kafka-{VERSION}"
DOWNLOADED_WITHIN: Final = 600.0  # seconds
READY_WITHIN: Final = 120.0
STOPPED_WITHIN: Final = 30.0

HOW_TO_INSTALL: Final = (
    "On Debian or Ubuntu: sudo apt-get install openjdk-17-jre-headless maven. "
    "Or name a running broker: KAFKA_BOOTSTRAP_SERVERS=localhost:9092"
)
ARTIFACTS: Final = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.apache.logging.log4j", "log4j-core", "2.25.5"),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.5"),
)

_CONFIGURATION: Final = """\
process.roles=broker,controller
node.id={node}
{quorum}
listeners=PLAINTEXT://{address}:{port},CONTROLLER://127.0.0.1:{controller}{secured}
advertised.listeners=PLAINTEXT://{address}:{port}{secured}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms=300
metadata.max.idle.interval.ms=0
log.cleaner.dedupe.buffer.size=2097152
file.delete.delay.ms=1000
{settings}"""
_LOG: Final = """\
<Configuration status="error"><Appenders><Console name="out" target="SYSTEM_OUT">
<PatternLayout pattern="%d %p %m (%c{1})%n"/></Console></Appenders>
<Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


class NoBrokerError(Exception):
    """Kafka cannot run here. The message says what is missing and how to install it."""


class _BrokerGroup:
    """`with …:` or `start()` … `close()`, for one broker or several of one cluster."""

    brokers: Sequence["Broker"]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start those that do not run. Returns when all answer; raises NoBrokerError with the broker's log."""
        first, *others = self.brokers
        first.format()
        for broker in others:
            broker.format_like(first)
        for broker in self.brokers:
            broker.spawn()
        for broker in self.brokers:
            broker.wait_until_ready()

    def close(self) -> None:
        """Kill the brokers and remove their data."""
        for broker in self.brokers:
            broker.kill()
            shutil.rmtree(broker.directory, ignore_errors=True)


class Broker(_BrokerGroup):
    """One broker; `bootstrap` is host:port.

    Once stopped or killed, it may start again, on the same port with the same data. It listens on `address`, and with
    `access` on three more ports that require authentication (`listeners`: host:port by security protocol). `node` and
    `voters` are for a `Cluster`. `classes` is Java's option of the archive of classes; None: the one that is used.
    `settings` are Kafka's own.
    """

    def __init__(
        self,
        address: str = "127.0.0.1",
        *,
        access: Access | None = None,
        node: int = 1,
        voters: Mapping[int, int] | None = None,
        heap: str = "768m",
        classes: str | None = None,
        **settings: str | int,
    ) -> None:
        self.brokers = (self,)
        self.java = _java()
        self.jars = _jars()
        self._classes = _classes(self.jars) if classes is None else classes
        self.directory = Path(tempfile.mkdtemp(prefix="streamhub-kafka-"))
        self.port = free_port()
        self.address = address
        self.bootstrap = f"{address}:{self.port}"
        self.listeners = {name: f"{address}:{free_port()}" for name in SECURED} if access is not None else {}
        self._heap = heap
        self._node = node
        controller = free_port() if voters is None else voters[node]
        quorum = f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}"
        self._format = ["--standalone"]
        if voters is not None:
            quorum = "controller.quorum.voters=" + ",".join(f"{id_}@127.0.0.1:{port}" for id_, port in voters.items())
            self._format = []
        if access is not None:
            self._format += access.at_format
        self._process: subprocess.Popen[bytes] | None = None
        (self.directory / "log4j2.xml").write_text(_LOG)
        self._properties = self.directory / "server.properties"
        self._properties.write_text(
            _CONFIGURATION.format(
                address=address,
                port=self.port,
                node=node,
                session=1500 if voters is None else 4000,
                quorum=quorum,
                controller=controller,
                secured="".join(f",{name}://{where}" for name, where in self.listeners.items()),
                data=self.directory / "data",
                settings="".join(f"{name.replace('_', '.')}={value}\n" for name, value in settings.items())
                + ("" if access is None else access.settings),
            )
        )

    @property
    def pid(self) -> int | None:
        """The pid of the running broker; None where it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def spawn(self) -> None:
        """Start, and return at once. The broker is killed when the thread that calls this ends."""
        if self.pid is not None:
            return
        self.format()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tied(self._command(self._heap, "kafka.Kafka")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def format(self) -> None:
        if not self._meta.exists():
            self._run("kafka.tools.StorageTool", "format", *self._format, "-t", "c3RyZWFtaHViLXRlc3RzLQ", "-c")

    def format_like(self, other: "Broker") -> None:
        """Copy the data of another broker of the cluster: faster than the Java program."""
        if not self._meta.exists():
            shutil.copytree(other.directory / "data", self.directory / "data")
            meta = re.sub(r"(?m)^node\.id=.*$", f"node.id={self._node}", self._meta.read_text())
            name = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            self._meta.write_text(re.sub(r"(?m)^directory\.id=.*$", f"directory.id={name}", meta))

    @property
    def _meta(self) -> Path:
        return self.directory / "data" / "meta.properties"

    def wait_until_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN
        while True:
            if self.pid is None:
                raise NoBrokerError(f"the Kafka broker did not start:\n{self._log_tail()}")
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1) as connection:
                connection.settimeout(5)
                connection.sendall(_API_VERSIONS)
                if connection.recv(4):
                    return
            if time.monotonic() > give_up:
                raise NoBrokerError(f"the Kafka broker does not answer after {READY_WITHIN:.0f} s:\n{self._log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM: it writes everything to disk and tells its clients."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, by: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(by)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def _log(self) -> Path:
        return self.directory / "broker.log"

    def _log_tail(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:] if self._log.exists() else ""

    def _command(self, heap: str, *arguments: str) -> list[str]:
        return [
            self.java, f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", self._classes,
            f"-Dlog4j2.configurationFile={self.directory / 'log4j2.xml'}",
            "-cp", f"{self.jars}/*", *arguments, str(self._properties),
        ]  # fmt: skip

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            self._command("128m", *arguments), capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise NoBrokerError(f"{' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


class Cluster(_BrokerGroup):
    """Brokers that replicate. Each of `brokers` may be killed and started again."""

    def __init__(self, count: int = 3, *, access: Access | None = None, heap: str = "256m") -> None:
        voters = {node: free_port() for node in range(1, count + 1)}
        self.brokers = tuple(Broker(access=access, node=node, voters=voters, heap=heap) for node in voters)

    @property
    def bootstrap(self) -> Sequence[str]:
        """host:port of each."""
        return [broker.bootstrap for broker in self.brokers]

    def listeners(self, protocol: str) -> Sequence[str]:
        """host:port of each, for a security protocol."""
        return [broker.listeners[protocol] for broker in self.brokers]


# A request that every broker answers: ApiVersions 0, after its length, without a client id.
_API_VERSIONS: Final = bytes.fromhex("0000000a 0012 0000 00000001 ffff")


def _java() -> str:
    """The program, of version 17 or later. Raises NoBrokerError."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    if java is None:
        raise NoBrokerError(f"Kafka needs Java 17 or later, and no java is installed. {HOW_TO_INSTALL}")
    version = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < 17:
        raise NoBrokerError(
            f"Kafka needs Java 17 or later, and {java} is {version.partition(chr(10))[0]!r}. {HOW_TO_INSTALL}"
        )
    return java


def _jars() -> Path:
    """The directory of the jars, downloaded at the first call on a machine. Raises NoBrokerError."""
    if CACHE.is_dir():
        return CACHE
    maven = shutil.which("mvn")
    if maven is None:
        raise NoBrokerError(f"the Kafka broker is downloaded by Maven, and no mvn is installed. {HOW_TO_INSTALL}")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent, prefix="kafka-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        (directory / "pom.xml").write_text(_project())
        try:
            done = subprocess.run(
                [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
                cwd=directory, capture_output=True, text=True, timeout=DOWNLOADED_WITHIN, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NoBrokerError(f"Maven did not download the broker within {DOWNLOADED_WITHIN:.0f} s") from None
        if done.returncode:
            raise NoBrokerError(f"Maven could not download the broker:\n{(done.stdout + done.stderr)[-2000:]}")
        try:
            (directory / "lib").rename(CACHE)
        except OSError:
            if not CACHE.is_dir():  # else another process was faster
                raise
    return CACHE


def _classes(jars: Path) -> str:
    """Java's option of an archive of the classes that a broker loads: with it a start takes half of the processor time.

    The archive is made once on a machine, beside the jars, by a broker that starts and stops for that alone. Java does
    without one that is of another Java or of other jars.
    """
    archive = jars.with_name(f"{jars.name}.jsa")
    if not archive.exists():
        with archive.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not archive.exists():
                made = archive.with_suffix(".new")
                with Broker(classes=f"-XX:ArchiveClassesAtExit={made}") as broker:
                    broker.stop()
                if not made.exists():
                    return "-Xshare:auto"  # as without any of this
                made.rename(archive)
    return f"-XX:SharedArchiveFile={archive}"


def _project() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
        f"<version>{escape(version)}</version></dependency>"
        for group, artifact, version in ARTIFACTS
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>streamhub</groupId><artifactId>broker</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
