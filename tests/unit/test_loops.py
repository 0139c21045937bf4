"""Loops that catch errors end when they are cancelled."""

import ast
from pathlib import Path

import pytest

import streamhub

ROOT = Path(streamhub.__file__).parent
SOURCES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
# Errors that the end of a transaction may put in a cancellation's place.
WIDE = {"Exception", "BaseException", "OSError", "DATABASE_ERRORS", "DATABASE_AWAY", "PostgresError", "InterfaceError"}


def wide_handlers(part: ast.AST) -> list[ast.ExceptHandler]:
    return [
        handler
        for handler in ast.walk(part)
        if isinstance(handler, ast.ExceptHandler) and handler.type is not None and WIDE & names_in(handler.type)
    ]


def names_in(part: ast.AST) -> set[str]:
    named = [node for node in ast.walk(part) if isinstance(node, ast.Name | ast.Attribute)]
    return {node.id if isinstance(node, ast.Name) else node.attr for node in named}


def ends(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise | ast.Return)


def sleeps(part: ast.AST) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(part)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.sleep" and ast.unparse(node.args[0]) != "0"
    ]


def pauses_after_an_error(tree: ast.AST) -> set[int]:
    """The lines of asyncio.sleep in a loop that goes on after an error, and where the error itself is handled: the loop
    may be the caller's."""
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    going_on = [loop for loop in loops if not all(map(ends, wide_handlers(loop)))]
    return {line for part in (*going_on, *wide_handlers(tree)) for line in sleeps(part)}


@pytest.mark.parametrize("name", SOURCES)
def test_a_loop_that_catches_what_a_database_raises_pauses_with_rest(name: str) -> None:
    found = pauses_after_an_error(ast.parse(SOURCES[name].read_text()))
    assert not found, (
        f"{name}, lines {sorted(found)}: backoff.rest, so that a cancellation in a statement ends the loop"
    )
