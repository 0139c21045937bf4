"""The renderer as its source is interpreted, beside the compiled one that the process has."""

import importlib
import os
import sys
from collections.abc import Callable

import pytest

from streamhub import core
from streamhub.core import cutting, rendering

# The compiled modules, and those that import them.
_AFFECTED = (*core.COMPILED_MODULES, "kinds", "plans", "published")


def interpreted_renderer() -> Callable[[int], rendering.Renderer]:
    """The class. Skips the test where the one in use is not compiled, and fails it where REQUIRE_COMPILED is set."""
    if not cutting.COMPILED:
        reason = "the core is not compiled: python compile_core.py"
        if os.environ.get("REQUIRE_COMPILED"):
            pytest.fail(reason)
        pytest.skip(reason)
    names = [f"streamhub.core.{name}" for name in _AFFECTED]
    modules = {name: importlib.import_module(name) for name in names}
    path = [*core.__path__]
    try:
        for name in names:
            del sys.modules[name]
        core.__path__[:] = path[1:]
        made = importlib.import_module("streamhub.core.rendering")
    finally:
        core.__path__[:] = path
        sys.modules.update(modules)
        for name, module in modules.items():
            setattr(core, name.rpartition(".")[2], module)
    assert made.__file__ is not None
    assert made.__file__.endswith(".py")
    return made.Renderer
