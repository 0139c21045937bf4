"""The page of docs/reference about streamhub.client and streamhub.testing: signatures and docstrings."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, Final

import streamhub.client
import streamhub.testing

_FIRST: Final = ("StreamHub", "FakeHub")
_LAST: Final = ("StreamHubError", "Refused", "Unreachable", "IncompleteReplay", "InvalidSignature")
_MADE_BY_USERS: Final = frozenset({"StreamHub", "FilePosition", "PostgresPosition", "FakeHub"})
_BETWEEN_MODULES: Final = frozenset({"messages", "is_due", "of", "of_gap", "stop"})


def parts() -> Iterator[str]:
    for module in (streamhub.client, streamhub.testing):
        yield f"## {module.__name__}"
        yield _text(module)
        for name in sorted(module.__all__, key=lambda name: (name not in _FIRST, name in _LAST, name)):
            found = getattr(module, name)
            yield from _function(name, found) if inspect.isfunction(found) else _class(name, found)


def _function(name: str, found: Callable[..., Any]) -> Iterator[str]:
    yield f"### {name}"
    yield f"```python\n{_call(name, found)}\n```"
    yield _text(found)


def _class(name: str, found: type) -> Iterator[str]:
    yield f"### {name}"
    if name in _MADE_BY_USERS:
        yield f"```python\n{_call(name, vars(found)['__init__'])}\n```"
    yield _text(found)
    if name in _MADE_BY_USERS and vars(found)["__init__"].__doc__:
        yield _text(vars(found)["__init__"])
    rows = list(_members(found))
    if rows:
        yield "\n".join(["| member | what it does |", "| --- | --- |", *rows])


def _members(found: type) -> Iterator[str]:
    """What has a docstring, in the class and in those of ours that it extends."""
    members: dict[str, Any] = {}
    for each in reversed(found.__mro__):
        if each.__module__.startswith("streamhub."):
            members |= vars(each)
    for name, member in members.items():
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or name in _BETWEEN_MODULES or not inspect.isfunction(function):
            continue
        if function.__doc__:
            shown = name if isinstance(member, property) else _call(name, function)
            yield f"| `{shown}` | {_text(function)} |".replace("\n\n", " ").replace("\n", " ")


def _call(name: str, function: Any) -> str:
    """Names and defaults as they are written; the types are in the code, which every editor shows."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    arguments = node.args
    for each in (*arguments.args, *arguments.kwonlyargs, arguments.kwarg):
        if each is not None:
            each.annotation = None
    arguments.args = [each for each in arguments.args if each.arg != "self"]
    wait = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{wait}{name}({ast.unparse(arguments)})"


def _text(found: object) -> str:
    return inspect.getdoc(found) or ""
