"""What docs and messages tell people to type works: from a checkout, or from the wheel that is built of it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import click
import pytest

from streamhub import __version__
from streamhub.cli import main

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WHEEL: Final = f"streamhub_cdc-{__version__}-py3-none-any.whl"
CHECKOUT: Final = (
    "streamhub", "tests", "docs", "deploy", "servers", "crash", "benchmarks", "examples", ".ci", "Makefile",
    "Dockerfile", "docker-compose.yml", ".dockerignore", ".env.example", "compile_core.py", "pyproject.toml",
    "README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md",
)  # fmt: skip
BUILT: Final = {"__pycache__", "compiled"}
# Where a command stands: a line of a block, or between backticks.
BLOCK: Final = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
INLINE: Final = re.compile(r"`((?:pip|make|streamhub) [^`\n]+)`")


class Found(NamedTuple):
    where: str
    command: str


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of_documents() -> Iterator[Found]:
    for document in documents():
        text = document.read_text("utf-8")
        for block in BLOCK.findall(text):
            console = "\n$ " in f"\n{block}"
            for line in block.replace("\\\n", " ").splitlines():
                if not console or line.startswith("$ "):
                    for part in re.split(r" && |\$\(|; ", line.removeprefix("$ ").partition("  #")[0]):
                        yield Found(document.relative_to(ROOT).as_posix(), re.split(r" [|>&] ?|\)", part)[0].strip())
        for command in INLINE.findall(BLOCK.sub("", text)):
            yield Found(document.relative_to(ROOT).as_posix(), command)


def commands_of_messages() -> Iterator[Found]:
    for source in sorted((ROOT / "streamhub").rglob("*.py")):
        for line in source.read_text("utf-8").splitlines():
            for command in re.findall(r"(pip install [^\"]+)", line):
                yield Found(source.name, command.replace("{extra}", "server"))


ALL: Final = [*commands_of_documents(), *commands_of_messages()]


def of(program: str) -> list[Found]:
    found = [each for each in ALL if each.command.startswith(f"{program} ")]
    assert found, f"no command {program} was found: is it looked for in the right way?"
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("found", of("pip"), ids=str)
def test_what_pip_is_told_to_install_is_ours_and_has_the_extras(found: Found) -> None:
    _, verb, *arguments = shlex.split(found.command)
    assert verb in ("install", "wheel")
    for argument in (each for each in arguments if not each.startswith("-") and each != "dist"):
        what, _, extras = argument.rstrip("]").partition("[")
        assert what in (".", f"./{WHEEL}"), f"{found.where}: {what} is on no index under our name"
        assert {extra for extra in extras.split(",") if extra} <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("found", of("make"), ids=str)
def test_what_make_is_told_to_make_there_is(found: Found) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in shlex.split(found.command)[1:]:
        name, assigned, _ = word.partition("=")
        known = rf"\$[({{]+{name}\b" if assigned else rf"(?m)^{name}:"
        assert re.search(known, makefile), f"{found.where}: the Makefile knows no {name}"


@pytest.mark.parametrize("found", of("streamhub"), ids=str)
def test_a_command_of_ours_has_the_options_that_are_written(found: Found) -> None:
    words = [word for word in (each.strip("…[]") for each in shlex.split(found.command)[1:]) if word]
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        with click.Context(command) as context:
            inner = command.get_command(context, name)
        assert inner is not None, f"{found.where}: {found.command}"
        command = inner
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    written = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert written <= options | {"--help", "--version"}, f"{found.where}: {found.command}"


# -- the wheel and the sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)],
        cwd=ROOT, check=True, capture_output=True, timeout=60, env=os.environ | {"STREAMHUB_COMPILED": "off"},
    )  # fmt: skip
    return directory


def in_the_checkout(*under: str) -> set[str]:
    """The files there, but for what Python leaves behind, and the compiled core that was built there."""
    found = (path for top in under for path in ((ROOT / top).rglob("*") if (ROOT / top).is_dir() else [ROOT / top]))
    return {str(path.relative_to(ROOT)) for path in found if path.is_file() and not BUILT & {*path.parts}}


def test_the_wheel_holds_the_whole_package(built: Path) -> None:
    with zipfile.ZipFile(built / WHEEL) as wheel:
        held = {name for name in wheel.namelist() if name.startswith("streamhub/")}
    assert held == in_the_checkout("streamhub")


def test_the_wheel_holds_what_is_no_python_and_the_licence(built: Path) -> None:
    with zipfile.ZipFile(built / WHEEL) as wheel:
        held = set(wheel.namelist())
    schema = in_the_checkout("streamhub/postgres/sql")
    assert schema
    assert held >= schema | {"streamhub/demo/shop.sql", "streamhub/py.typed"}
    assert f"streamhub_cdc-{__version__}.dist-info/licenses/LICENSE" in held


def test_the_sdist_holds_the_whole_checkout(built: Path) -> None:
    with tarfile.open(built / f"streamhub_cdc-{__version__}.tar.gz") as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert in_the_checkout(*CHECKOUT) <= held


class Installed(NamedTuple):
    """A virtual environment with the wheel, and nothing else."""

    directory: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.directory / "bin" / arguments[0]), *arguments[1:]]
        return subprocess.run(
            command, env={"PATH": "/usr/bin:/bin", **environment}, cwd=self.directory,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("venv")
    venv.create(directory, with_pip=False, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install", "--quiet", "--no-index",
         "--no-deps", "--disable-pip-version-check", f"./{WHEEL}"],
        cwd=built, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return Installed(directory)


def test_without_an_extra_the_command_says_in_a_sentence_which_one_it_needs(installed: Installed) -> None:
    said = installed.run("streamhub", "--version")
    assert said.returncode == 1
    assert re.fullmatch(r"streamhub: the command needs \w+, which is not installed: .*'\.\[server\]'\n", said.stderr)


def test_the_command_of_the_wheel_runs(installed: Installed) -> None:
    ours = Path(click.__file__).parents[1]  # where what the extra brings is installed already
    said = installed.run("streamhub", "--version", PYTHONPATH=str(ours))
    assert (said.returncode, said.stdout) == (0, f"streamhub {__version__}\n"), said.stderr


def test_the_distribution_has_a_name_of_its_own(installed: Installed) -> None:
    said = installed.run(
        "python", "-c", "import importlib.metadata as m; print(m.version('streamhub-cdc'), m.version('streamhub'))"
    )
    assert "No package metadata was found for streamhub\n" in said.stderr
