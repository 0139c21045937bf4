"""Modules of the core as their source is interpreted, beside the compiled ones that the process has."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from streamhub import core
from streamhub.core import cutting, rendering

# The compiled modules, and those that import them.
_AFFECTED = (*core.COMPILED_MODULES, "kinds", "plans", "published")


def interpreted(*names: str) -> list[Any]:
    """These modules of the core. Skips the test where those in use are not compiled, and fails it where
    REQUIRE_COMPILED is set."""
    if not cutting.COMPILED:
        reason = "the core is not compiled: python compile_core.py"
        if os.environ.get("REQUIRE_COMPILED"):
            pytest.fail(reason)
        pytest.skip(reason)
    affected = [f"streamhub.core.{name}" for name in _AFFECTED]
    modules = {name: importlib.import_module(name) for name in affected}
    path = [*core.__path__]
    try:
        for name in affected:
            del sys.modules[name]
        core.__path__[:] = path[1:]
        made = [importlib.import_module(f"streamhub.core.{name}") for name in names]
    finally:
        core.__path__[:] = path
        sys.modules.update(modules)
        for name, module in modules.items():
            setattr(core, name.rpartition(".")[2], module)
    assert all(str(module.__file__).endswith(".py") for module in made)
    return made


def interpreted_renderer() -> Callable[[int], rendering.Renderer]:
    """The class. Skips and fails as `interpreted` does."""
    (module,) = interpreted("rendering")
    renderer: Callable[[int], rendering.Renderer] = module.Renderer
    return renderer
