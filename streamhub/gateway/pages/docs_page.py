"""An OpenAPI document as a page: headings for each group and route, tables, examples that open. No script."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

METHODS: Final = ("get", "post", "put", "patch", "delete")

_CODE: Final = re.compile(r"`([^`]+)`")


def page(document: Mapping[str, Any]) -> str:
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    groups = {tag["name"]: list(_of_group(document, tag["name"])) for tag in document["tags"]}
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="color-scheme" content="light dark">\n<title>{title}: routes</title>',
            '<link rel="stylesheet" href="/-/docs.css">\n</head>\n<body>',
            '<a class="skip" href="#main">Skip to the routes</a>',
            f"<header><h1>{title}</h1><p>{_text(info['description'])}</p>",
            '<p><a href="/-/openapi.json">OpenAPI 3.1</a></p></header>',
            '<nav aria-label="Routes">',
            *(_links(name, operations) for name, operations in groups.items()),
            '</nav>\n<main id="main" tabindex="-1">',
            *_token(document["components"]["securitySchemes"]["bearer"]),
            *(part for name, operations in groups.items() for part in _group(name, operations)),
            *_event(document["components"]["schemas"]["Event"]),
            *_codes(document),
            "</main>\n</body>\n</html>\n",
        )
    )


class _Operation:
    def __init__(self, path: str, method: str, of_path: Mapping[str, Any]) -> None:
        self.path = path
        self.method = method.upper()
        self.told = of_path[method]
        self.parameters = [*of_path.get("parameters", ()), *self.told.get("parameters", ())]
        self.anchor = self.told.get("operationId") or re.sub(r"\W+", "-", f"{method} {path}").strip("-")

    @property
    def title(self) -> str:
        return self.told.get("summary") or f"{self.method} {self.path}"


def _of_group(document: Mapping[str, Any], group: str) -> Iterator[_Operation]:
    for path, of_path in document["paths"].items():
        for method in METHODS:
            if method in of_path and group in of_path[method]["tags"]:
                yield _Operation(path, method, of_path)


def _links(name: str, operations: Sequence[_Operation]) -> str:
    links = "".join(f'<li><a href="#{each.anchor}">{escape(each.title)}</a></li>' for each in operations)
    return f"<h2>{escape(name)}</h2><ul>{links}</ul>"


def _token(bearer: Mapping[str, Any]) -> Iterator[str]:
    yield '<section aria-labelledby="token"><h2 id="token">The token</h2>'
    yield f"<p>{_text(bearer['description'])}</p></section>"


def _group(name: str, operations: Sequence[_Operation]) -> Iterator[str]:
    anchor = "group-" + re.sub(r"\W+", "-", name.lower())
    yield f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(name)}</h2>'
    for operation in operations:
        yield from _operation(operation)
    yield "</section>"


def _operation(operation: _Operation) -> Iterator[str]:
    told = operation.told
    yield f'<article aria-labelledby="{operation.anchor}">'
    yield f'<h3 id="{operation.anchor}">{escape(operation.title)}</h3>'
    yield f'<p class="route"><b>{operation.method}</b> <code>{escape(operation.path)}</code></p>'
    if not told["security"]:
        yield "<p>No token is needed.</p>"
    if told.get("description"):
        yield f"<p>{_text(told['description'])}</p>"
    if operation.parameters:
        yield _table("Parameters", ("name", "in", "meaning", "example"), [_parameter(p) for p in operation.parameters])
    if "requestBody" in told:
        for media_type, content in told["requestBody"]["content"].items():
            yield f"<h4>Body: <code>{escape(media_type)}</code></h4>"
            yield _details("Example", content["example"])
            yield _details("Schema", content["schema"])
    answers = {status: each for status, each in told["responses"].items() if _own(each)}
    yield "<h4>Answers</h4>"
    for status, answer in answers.items():
        yield f"<p><b>{status}</b> {_text(answer['description'])}</p>"
        for media_type, content in answer.get("content", {}).items():
            if "example" in content:
                yield _details(f"Example: {media_type}", content["example"])
                if isinstance(content["example"], Mapping):
                    yield _details(f"Schema: {media_type}", content["schema"])
    yield _table("Refusals", ("status", "codes"), list(_refusals(told["responses"])))
    yield "</article>"


def _own(answer: Mapping[str, Any]) -> bool:
    """Whether it is more than a refusal."""
    contents = answer.get("content", {})
    return not contents or any("example" in each for each in contents.values())


def _refusals(responses: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for status, answer in responses.items():
        codes = [code for each in answer.get("content", {}).values() for code in each.get("examples", ())]
        if codes:
            links = ", ".join(f'<a href="#{code}"><code>{code}</code></a>' for code in codes)
            yield status, links


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"<code>{escape(parameter['name'])}</code>"
    example = parameter.get("example", "")
    if isinstance(example, Mapping):
        example = "&".join(f"{key}={value}" for key, value in example.items())
    shown = f"<code>{escape(str(example))}</code>" if example else ""
    return name, escape(parameter["in"]), _text(parameter.get("description", "")), shown


def _event(schema: Mapping[str, Any]) -> Iterator[str]:
    yield '<section aria-labelledby="event"><h2 id="event">The event</h2>'
    yield f"<p>{_text(schema['description'])}</p>"
    rows = [
        (
            f"<code>{escape(name)}</code>",
            "always" if name in schema["required"] else "",
            _text(told.get("description", "")),
        )
        for name, told in schema["properties"].items()
    ]
    yield _table("Members", ("member", "there", "meaning"), rows)
    for name, example in zip(("a change", "a published event"), schema["examples"], strict=False):
        yield _details(f"Example: {name}", example)
    yield _details("JSON Schema", schema)
    yield "</section>"


def _codes(document: Mapping[str, Any]) -> Iterator[str]:
    yield '<section aria-labelledby="codes"><h2 id="codes">Error codes</h2>'
    rows = []
    for code, example in document["components"]["examples"].items():
        (error,) = example["value"]["errors"]
        rows.append(
            (f'<code id="{code}">{code}</code>', error["status"], _text(error["title"]), _text(error["detail"]))
        )
    yield _table("Every code", ("code", "status", "title", "what happened, and what to do"), rows)
    refusal = next(iter(document["components"]["examples"].values()))["value"]
    yield _details("Example: application/vnd.api+json", refusal)
    yield "</section>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells of `rows` are HTML. A table that is wider than the page scrolls in a box of its own, by keys too."""
    heads = "".join(f'<th scope="col">{each}</th>' for each in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0"><table><caption>{escape(caption)}'
        f"</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _details(summary: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f'<details><summary>{escape(summary)}</summary><pre tabindex="0"><code>{escape(text)}</code></pre></details>'


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
