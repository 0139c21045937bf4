"""A route, with all that is told of it: the router takes it from here, and so do the reference and OpenAPI."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiohttp import web

from streamhub.web.parameters import Parameter
from streamhub.web.scopes import Rule

Schema = Mapping[str, Any]  # JSON Schema, 2020-12

# The contract's slug. `-` is none, so the operators' pages collide with no organization's.
ORGANIZATION: Final = "/{organization:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?}"

_VARIABLE: Final = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}")


class Variable(NamedTuple):
    """A variable part of paths. `name` is what the reference calls it; `pattern` what its values match, whole."""

    name: str
    means: str
    example: str
    pattern: str | None = None


# By the router's name of it.
VARIABLES: Final[Mapping[str, Variable]] = {
    "organization": Variable("org", "the organization's slug", "my-org", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
    "file": Variable("file", "one of the dashboard's files", "app.js"),
    "job": Variable("job_id", "the replay's id, of `replay_started`", "5f0c7e0e-2f8d-4c3b-9d0a-0d6f1c1f5a10"),
    "endpoint": Variable("endpoint_id", "the webhook endpoint's id", "0c9b1a52-7f53-4f0e-9d0a-3f1c1f5a1077"),
    "delivery": Variable("delivery_id", "the delivery's id, the `webhook-id`", "01a202b2-c57c-7000-8000-00000000002a"),
}


class Content(NamedTuple):
    """A body in one media type. `example` is a value; of what is no JSON, its text."""

    media_type: str
    schema: Schema
    example: Any


class Answer(NamedTuple):
    """What a route answers where it does not refuse. `headers`: name → meaning."""

    status: int
    means: str
    contents: Sequence[Content] = ()
    headers: Mapping[str, str] = {}


class Body(NamedTuple):
    """What a route takes. `codes`: of a body that it does not take."""

    content: Content
    codes: Sequence[str] = ("INVALID_JSON", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")


class Route(NamedTuple):
    """`handler` begins with `admitted(request, rule)`, and reads its `parameters` with `parameters.read`. One that
    `is_open` asks for no token, and is there whatever the process's roles.

    `name` is OpenAPI's operationId and `summary` its title; `group` the heading that it stands under. `codes` are those
    of its refusals that follow neither from its parameters and body nor from its rule. `is_endless`: a stream that does
    not end by itself.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    parameters: Sequence[Parameter] = ()
    is_open: bool = False
    name: str = ""
    group: str = "Other"
    summary: str = ""
    description: str = ""
    rule: Rule | None = None
    headers: Sequence[Parameter] = ()
    body: Body | None = None
    answers: Sequence[Answer] = ()
    codes: Sequence[str] = ()
    is_endless: bool = False
    with_head: bool = False

    @property
    def shown_path(self) -> str:
        """As the reference writes it: `/{org}/replays/{job_id}`."""
        return _VARIABLE.sub(lambda found: f"{{{variable(found[1]).name}}}", self.path)

    @property
    def variables(self) -> Sequence[Variable]:
        return [variable(found[1]) for found in _VARIABLE.finditer(self.path)]


def variable(name: str) -> Variable:
    """One that VARIABLES does not have is shown by the router's name of it."""
    return VARIABLES.get(name) or Variable(name, "", "")


def json_of(schema: Schema, example: Any) -> Content:
    return Content("application/json", schema, example)


def data_of(schema: Schema, example: Any) -> Content:
    """`{"data": …}`, as all answers in JSON are."""
    return json_of(object_of({"data": schema}), {"data": example})


def text_of(media_type: str, example: str) -> Content:
    return Content(media_type, {"type": "string"}, example)


def events_of(example: str) -> Content:
    """Server-Sent Events. OpenAPI 3.1 has no words for their parts; tools read a type here as that of each event."""
    return Content("text/event-stream", {"contentMediaType": "text/event-stream"}, example)


def object_of(members: Mapping[str, Schema]) -> Schema:
    """An object that has these members."""
    return {"type": "object", "required": list(members), "properties": dict(members)}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


TIME: Final[Schema] = {"type": "string", "format": "date-time"}
UUID: Final[Schema] = {"type": "string", "format": "uuid"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
