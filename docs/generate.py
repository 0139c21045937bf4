"""Writes docs/reference/: settings, routes (OpenAPI too), errors, metrics, the command line, the schema, the event's
JSON Schema and the topic's AsyncAPI, as the code has them.

`make docs` runs it. tests/unit/test_reference.py and tests/integration/postgres/test_schema.py compare the files with
what it would write, so a page that is out of date fails `make test`. Do not edit the files by hand.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import asyncpg
import click
from prometheus_client.metrics_core import Metric
from pydantic.fields import FieldInfo

from docs import asyncapi, python_client
from streamhub.cli import main as command_line
from streamhub.config import PREFIX, SECRETS, Settings
from streamhub.core.event_schema import EVENT
from streamhub.embedded import EmbeddedPostgres, installed_binaries
from streamhub.gateway import operations
from streamhub.gateway.app import ROUTES
from streamhub.health import census, facts
from streamhub.metrics import Metrics
from streamhub.postgres.migrate import SCHEMAS, migrate_hub, migrate_source
from streamhub.web import openapi
from streamhub.web.problems import PROBLEMS
from streamhub.web.route import Route

REFERENCE: Final = Path(__file__).parent / "reference"
NOTE: Final = "<!-- Written by `make docs` from the code. Do not edit. -->"


def pages() -> Mapping[str, str]:
    """Name of the file → its text; all but the schema, which needs a database."""
    return {
        "settings.md": settings(),
        "routes.md": routes(),
        "errors.md": error_codes(),
        "metrics.md": metrics(),
        "commands.md": commands(),
        "client.md": client(),
        "openapi.json": openapi_document(),
        "event.schema.json": event_schema(),
        "asyncapi.json": _json(asyncapi.document()),
    }


# -- settings


def settings() -> str:
    sentences = _sentences_under_fields(Settings)
    rows = [
        (f"`{name.upper()}`", _default(field), sentences[name], f"{field.description}, e.g. {_example(field)}")
        for name, field in Settings.model_fields.items()
    ]
    secrets = ", ".join(f"`{name.upper()}`" for name in SECRETS if name in Settings.model_fields)
    return _page(
        "Settings",
        f"Each is an environment variable that begins with `{PREFIX}`, e.g. `{PREFIX}PORT=9000`. A flag "
        "wins over the variable. A wrong or missing setting stops the start with one sentence: variable, value"
        f" and a right example. A variable that begins with `{PREFIX}` and is no setting is named in the log.",
        f"{secrets} may come from a file instead: `{PREFIX}DATABASE_URL_FILE=/run/secrets/database_url`. A newline at "
        "the file's end is left out. Where the variable and its `_FILE` are both set, the process does not start.",
        "Durations have units: `500ms`, `5s`, `30m`, `2h`, `7d`, `1h30m`. "
        "Sizes are bytes, or `64KiB`, `16MiB`, `1GiB`.",
        _table(("setting", "default", "what it does", "a right value"), rows),
    )


def _sentences_under_fields(model: type) -> dict[str, str]:
    """The string that stands under each field of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.default_factory is not None or value is None or value == () or isinstance(value, frozenset):
        return ""
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if isinstance(value, tuple) and all(isinstance(each, timedelta) for each in value):
        return f"`{','.join(map(_duration, value))}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{_size(value)}`" if "a size" in (field.description or "") else f"`{value}`"


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0 and (unit, seconds) != ("d", length):  # 24h, as people write it
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _size(value: int) -> str:
    return f"{value // 2**20}MiB" if value % 2**20 == 0 else str(value)


def _example(field: FieldInfo) -> str:
    return f"`{(field.examples or [''])[0]}`"


# -- errors


def error_codes() -> str:
    rows = [(str(each.status), f"`{code}`", each.title, each.means) for code, each in PROBLEMS.items()]
    return _page(
        "Error codes",
        'Every refusal is `application/vnd.api+json`: `{"errors":[{"status","code","title","detail","source",'
        '"meta"}]}`. `detail` says what was wrong and what would be right, and names the value. '
        "[The contract](contract.md#errors) has the order in which a request is judged.",
        _table(("status", "code", "title", "what happened, and what to do"), rows),
    )


# -- routes


ALL_ROUTES: Final = (*ROUTES, *operations.ROUTES)


def routes() -> str:
    parts = []
    for name, of_name in groupby(ALL_ROUTES, key=lambda route: route.group):
        parts.append(f"## {name}")
        for route in of_name:
            parts += _route(route)
    return _page(
        "Routes",
        "`{org}` is the organization's slug. A parameter that a route does not have is UNKNOWN_PARAMETER. "
        "[The contract](contract.md) says what each route answers. A running hub has the same as OpenAPI 3.1 at "
        "`/-/openapi.json` ([this version's](openapi.json)), and as a page at `/-/docs`.",
        _table(
            ("route", "what it does", "needs"),
            [(f"`{_asked(each)}`", each.summary, _needed(each)) for each in ALL_ROUTES],
        ),
        *parts,
    )


def _asked(route: Route) -> str:
    return f"{route.method} {route.shown_path}"


def _needed(route: Route) -> str:
    return "" if route.rule is None else " or ".join(f"`{role}`" for role in route.rule.roles)


def _route(route: Route) -> Iterator[str]:
    yield f"### {_asked(route)}"
    if route.description:
        yield route.description
    rows = [(f"`{each.name}`", each.means, _codes(each.codes)) for each in (*route.parameters, *route.headers)]
    if rows:
        yield _table(("parameter", "meaning", "a wrong value is"), rows)
    yield _table(
        ("answer", "meaning"),
        [
            *((f"{each.status}", each.means) for each in route.answers),
            *_refusals(openapi.codes_of(route)),
        ],
    )


def _refusals(codes: Iterable[str]) -> Iterator[tuple[str, str]]:
    for status, of_status in groupby(codes, key=lambda code: PROBLEMS[code].status):
        yield str(status), _codes(of_status)


def openapi_document() -> str:
    return _json(openapi.document(ALL_ROUTES))


def event_schema() -> str:
    return _json({"$schema": "https://json-schema.org/draft/2020-12/schema", **EVENT})


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- metrics


def metrics() -> str:
    own = [row for family, labels in _collectors(Metrics()) for row in [_row(family, labels)]]
    state = facts.HubState(since_last=0.0, led=True, epoch=1)
    families = facts._families(  # noqa: SLF001
        state, {"hub": facts.Backlog(0, 0.0)}, [], facts.TopicProgress(0.0, None), census.NOTHING
    )
    hub = [_row(family, sorted({label for sample in family.samples for label in sample.labels})) for family in families]
    head = ("metric", "type", "labels", "what it tells")
    return _page(
        "Metrics",
        "`GET /-/metrics` answers in Prometheus' text format. Times are in seconds, sizes in bytes. No label names an "
        "organization. [Monitor](../operate/monitor.md) says what deserves an alert.",
        "## What a process counts of itself",
        "Take the sum over processes. The workers of `serve --workers` answer with the sum of all workers.",
        _table(head, sorted(own, key=lambda row: row[0].startswith("`process_"))),
        "## What a process reads of the hub",
        "Every process tells the same, so take the maximum. Each piece has 2 s to come, and is left out after that.",
        _table(head, hub),
    )


def _collectors(own: Metrics) -> Iterator[tuple[Metric, Sequence[str]]]:
    """Each family with the names of its labels, which its samples do not tell while there are none."""
    for collector in own._registry._collector_to_names:  # noqa: SLF001
        for family in collector.collect():
            yield family, getattr(collector, "_labelnames", ())


def _row(family: Metric, labels: Sequence[str]) -> tuple[str, str, str, str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation


# -- the command line


def commands() -> str:
    parts = [text for path, command in _all_commands((), command_line) for text in _command(path, command)]
    return _page(
        "Command line",
        "`streamhub`, also `python -m streamhub`. Data goes to stdout, words to stderr. Exit codes: 0; 1, it failed "
        "(one sentence says why); 2, wrong usage. `--json` prints JSON where the output is a table. Every command has "
        "`--help`.",
        *parts,
    )


def _all_commands(path: tuple[str, ...], group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from _all_commands((*path, name), command)
            elif not command.hidden:
                yield (*path, name), command


def _command(path: tuple[str, ...], command: click.Command) -> Iterator[str]:
    arguments = [
        each.make_metavar(click.Context(command)) for each in command.params if isinstance(each, click.Argument)
    ]
    yield f"## {' '.join(path)}"
    yield f"```sh\nstreamhub {' '.join([*path, *arguments])}\n```"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if lines[0].strip() == "\b":
            yield "\n".join(("```sh", textwrap.dedent("\n".join(lines[1:])), "```"))
        else:
            yield " ".join(line.strip() for line in lines)
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if options:
        yield _table(("option", "what it does"), [(_spelled(each), _meaning(each)) for each in options])


def _spelled(option: click.Option) -> str:
    names = " / ".join((*option.opts, *option.secondary_opts))
    kind = "number" if option.type.name.endswith(" range") else option.type.name
    takes = "" if option.is_flag else f" {option.metavar or kind.upper()}"
    return f"`{names}{takes}`"


def _meaning(option: click.Option) -> str:
    default = f" Default: {option.default}." if option.show_default and option.default is not None else ""
    return f"{option.help or ''}{default}{' Required.' if option.required else ''}"


# -- the client


def client() -> str:
    return _page(
        "Python client",
        "`pip install .` in a checkout installs it: it needs aiohttp and orjson, and nothing of the server. "
        "[Consume in Python](../guides/python.md) shows it in use.",
        *python_client.parts(),
    )


# -- the schema


async def schema(url: str) -> str:
    """What migrations make of the empty database at `url`, on a PostgreSQL 18."""
    connection = await asyncpg.connect(url)
    try:
        await migrate_hub(connection)
        await migrate_source(connection)
        functions = await connection.fetch(_FUNCTIONS, list(SCHEMAS.values()))
    finally:
        await connection.close()
    dumped = [await asyncio.to_thread(_dumped, url, name) for name in SCHEMAS.values()]
    signatures = "\n".join(f"-- {row['signature']}" for row in functions)
    return f"{_HEAD}\n{''.join(dumped)}\n-- Functions: their bodies are in streamhub/postgres/sql.\n{signatures}\n"


_HEAD: Final = """\
-- Written by `make docs`. Do not edit.
-- The tables of a hub (schema streamhub_hub) and of a source (schema streamhub), after all migrations: pg_dump of
-- PostgreSQL 18. What each table and column is for stands beside it in streamhub/postgres/sql.
"""
_FUNCTIONS: Final = """
SELECT signature FROM (
SELECT format('%s(%s)%s%s', p.oid::regproc, pg_get_function_identity_arguments(p.oid),
              ' returns ' || pg_get_function_result(p.oid), CASE WHEN p.prosecdef THEN ', security definer' END)
       AS signature
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = ANY ($1)
) AS functions ORDER BY signature COLLATE "C"
"""


def _dumped(url: str, name: str) -> str:
    """Tables, indexes, sequences, views and rights of a schema."""
    program = str(installed_binaries() / "pg_dump")
    said = subprocess.run(
        [program, "--schema-only", "--no-owner", "--table", f"{name}.*", "--dbname", url],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    statements = [line for line in said.splitlines() if not line.startswith(("--", "SET ", "SELECT pg_catalog", "\\"))]
    return re.sub(r"\n{3,}", "\n\n", f"\nCREATE SCHEMA {name};\n" + "\n".join(statements)).rstrip() + "\n"


def _schema_of_a_new_server() -> str:
    directory = Path(tempfile.mkdtemp(prefix="streamhub-docs-"))
    directory.chmod(0o755)  # where we are root, PostgreSQL runs as another user
    postgres = EmbeddedPostgres(directory)
    postgres.start()
    try:
        return asyncio.run(schema(postgres.url))
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


# -- pages


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", NOTE, *parts)) + "\n"


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(re.sub(r"\|\s+\|", "| |", f"| {' | '.join(line)} |") for line in lines)


def write() -> None:
    """Write all files of docs/reference that come from the code."""
    texts = {**pages(), "schema.sql": _schema_of_a_new_server()}
    for name, text in texts.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
