"""Loops that catch errors end when they are cancelled."""

import ast
from pathlib import Path

import pytest

import streamhub

ROOT = Path(streamhub.__file__).parent
SOURCES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
# Errors that the end of a transaction may put in a cancellation's place.
WIDE = {"Exception", "BaseException", "OSError", "DATABASE_ERRORS", "DATABASE_AWAY", "PostgresError", "InterfaceError"}


def catches_widely(loop: ast.AST) -> bool:
    return any(
        name in WIDE
        for handler in ast.walk(loop)
        if isinstance(handler, ast.ExceptHandler) and handler.type is not None and not ends_with_raise(handler)
        for node in ast.walk(handler.type)
        for name in [node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""]
    )


def ends_with_raise(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise | ast.Return)


def sleeps(loop: ast.AST) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(loop)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.sleep" and ast.unparse(node.args[0]) != "0"
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_a_loop_that_catches_what_a_database_raises_pauses_with_rest(name: str) -> None:
    tree = ast.parse(SOURCES[name].read_text())
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    found = {line for loop in loops if catches_widely(loop) for line in sleeps(loop)}
    assert not found, (
        f"{name}, lines {sorted(found)}: backoff.rest, so that a cancellation in a statement ends the loop"
    )
