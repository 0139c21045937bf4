"""OpenAPI 3.1, made of the routes that an application has: nothing is told of a route here that the route does not say.

https://spec.openapis.org/oas/v3.1.1.html
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from streamhub import __version__
from streamhub.core import filters
from streamhub.core.event_schema import EVENT
from streamhub.web.parameters import FILTERS, Parameter
from streamhub.web.problems import MEDIA_TYPE, PROBLEMS
from streamhub.web.route import Answer, Content, Route, Variable

# Of every route, and of those that ask for a token; `read` judges the query string of each of those.
OF_ALL: Final = ("INVALID_REQUEST", "INTERNAL")
OF_TOKENS: Final = (
    "MISSING_TOKEN", "INVALID_TOKEN", "EXPIRED_TOKEN", "UNKNOWN_PARAMETER", "NOT_FOUND", "DRAINING", "UNAVAILABLE",
)  # fmt: skip

_INTRODUCTION: Final = (
    "Committed changes of PostgreSQL tables, as events: live, filtered for many subscribers, and replayed. "
    "A path that is not here is NOT_FOUND, a method that a path does not have METHOD_NOT_ALLOWED. A parameter that a "
    "route does not have is UNKNOWN_PARAMETER. Members may be added to answers: ignore those that you do not know."
)
_BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "`Authorization: Bearer <token>`: a JWT or, where a scope is asked for, an API key (`sh_ak_…`). "
    "What a route needs is named beside it: a scope, or `integration`, a token whose `application.kind` is that.",
}
_ERRORS: Final = {
    "title": "Errors",
    "type": "object",
    "required": ["errors"],
    "additionalProperties": False,
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["status", "code", "title", "detail"],
                "additionalProperties": False,
                "properties": {
                    "status": {"type": "string", "pattern": "^[45][0-9]{2}$"},
                    "code": {"enum": list(PROBLEMS)},
                    "title": {"type": "string", "minLength": 1},
                    "detail": {"type": "string", "minLength": 1},
                    "source": {
                        "type": "object",
                        "properties": {name: {"type": "string"} for name in ("parameter", "header", "pointer")},
                        "minProperties": 1,
                        "maxProperties": 1,
                        "additionalProperties": False,
                    },
                    "meta": {"type": "object", "minProperties": 1},
                },
            },
        }
    },
}
_RETRY_AFTER: Final = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Of these routes, in their order; a path's methods stand together."""
    by_path = sorted(routes, key=lambda route: [each.shown_path for each in routes].index(route.shown_path))
    groups = dict.fromkeys(route.group for route in routes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Streamhub",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This hub"}],
        "tags": [{"name": name} for name in groups],
        "paths": {path: _path(list(of_path)) for path, of_path in groupby(by_path, key=lambda route: route.shown_path)},
        "components": {
            "securitySchemes": {"bearer": _BEARER},
            "schemas": {"Event": EVENT, "Errors": _ERRORS},
            "examples": {code: _example(code) for code in PROBLEMS},
        },
    }


def codes_of(route: Route) -> Sequence[str]:
    """Every code that the route may refuse with, in the order of PROBLEMS."""
    codes = {*OF_ALL, *route.codes}
    if not route.is_open:
        codes.update(OF_TOKENS)
    if route.rule is not None:
        codes.update(route.rule.codes)
    if route.body is not None:
        codes.update(route.body.codes)
    if route.parameters:
        codes.add("REPEATED_PARAMETER")
    for parameter in (*route.parameters, *route.headers):
        codes.update(parameter.codes)
    return [code for code in PROBLEMS if code in codes]


def _path(routes: Sequence[Route]) -> dict[str, Any]:
    found: dict[str, Any] = {route.method.lower(): _operation(route) for route in routes}
    variables = [_variable(each) for each in routes[0].variables]
    return {"parameters": variables, **found} if variables else found


def _operation(route: Route) -> dict[str, Any]:
    described: dict[str, Any] = {"tags": [route.group]}
    if route.name:
        described["operationId"] = route.name
    if route.summary:
        described["summary"] = route.summary
    needs = route.rule.means if route.rule is not None else ""
    text = " ".join(part for part in (route.description, needs) if part)
    if text:
        described["description"] = text
    parameters = [
        *(_parameter(each, "query") for each in route.parameters),
        *(_parameter(each, "header") for each in route.headers),
    ]
    if parameters:
        described["parameters"] = parameters
    if route.body is not None:
        described["requestBody"] = {"required": True, "content": _contents([route.body.content])}
    described["responses"] = _responses(route)
    if route.is_open:
        described["security"] = []
    else:
        roles = route.rule.roles if route.rule is not None else ()
        described["security"] = [{"bearer": [role]} for role in roles] or [{"bearer": []}]
    return described


def _variable(variable: Variable) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if variable.pattern is not None:
        schema["pattern"] = variable.pattern
    told: dict[str, Any] = {"name": variable.name, "in": "path", "required": True, "schema": schema}
    if variable.means:
        told["description"] = _sentence(variable.means)
    if variable.example:
        told["example"] = variable.example
    return told


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    if parameter is FILTERS:
        return _field_filters()
    told: dict[str, Any] = {
        "name": parameter.name,
        "in": place,
        "description": _described(parameter),
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        told["example"] = parameter.example
    return told


def _field_filters() -> dict[str, Any]:
    """Parameters whose names are not known beforehand: a form's free members."""
    predicates = "|".join(filters.PREDICATES)
    return {
        "name": "filters",
        "in": "query",
        "description": f"`{FILTERS.name}`: {_described(FILTERS)}",
        "style": "form",
        "explode": True,
        "schema": {
            "type": "object",
            "propertyNames": {"pattern": rf"^({'|'.join(filters.ROOTS)})\..+_({predicates})$"},
            "additionalProperties": {"type": "string"},
            "maxProperties": filters.MOST_FILTERS,
        },
        "example": {"resource.status_eq": "paid", "delta.price_changed": "true"},
    }


def _described(parameter: Parameter) -> str:
    wrong = ", ".join(f"`{code}`" for code in parameter.codes)
    return f"{_sentence(parameter.means)} Refused with {wrong}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for answer in route.answers:
        found[str(answer.status)] = _answer(answer)
    codes = codes_of(route)
    for status in sorted({PROBLEMS[code].status for code in codes}):
        refusal = _refusal(status, [code for code in codes if PROBLEMS[code].status == status])
        own = found.get(str(status))
        if own is None:
            found[str(status)] = refusal
        else:
            own["content"] = {**own.get("content", {}), **refusal["content"]}
    return dict(sorted(found.items()))


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.means}
    if answer.headers:
        told["headers"] = {
            name: {"description": means, "schema": {"type": "string"}} for name, means in answer.headers.items()
        }
    if answer.contents:
        told["content"] = _contents(answer.contents)
    return told


def _contents(contents: Sequence[Content]) -> dict[str, Any]:
    return {each.media_type: {"schema": each.schema, "example": each.example} for each in contents}


def _refusal(status: int, codes: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": " ".join(f"`{code}`: {PROBLEMS[code].means}" for code in codes)}
    headers: dict[str, Any] = {}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"const": "Bearer"}}
    if status in (429, 503) or "ACTIVE_CONSUMER_EXISTS" in codes:
        headers["Retry-After"] = _RETRY_AFTER
    if headers:
        told["headers"] = headers
    of_status = {"properties": {"status": {"const": str(status)}, "code": {"enum": list(codes)}}}
    told["content"] = {
        MEDIA_TYPE: {
            "schema": {
                "allOf": [
                    {"$ref": "#/components/schemas/Errors"},
                    {"properties": {"errors": {"items": of_status}}},
                ]
            },
            "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
        }
    }
    return told


def _example(code: str) -> Mapping[str, Any]:
    problem = PROBLEMS[code]
    error = {"status": str(problem.status), "code": code, "title": problem.title, "detail": problem.means}
    return {"summary": problem.title, "value": {"errors": [error]}}
