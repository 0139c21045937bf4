"""The compiled form of the modules in which an event spends most of its time: built with the package, where a compiler
is.

    python compile_core.py      builds it into this checkout

It is made from the same Python source by Cython (core/*.pxd have the C types), and what lacks it is slower and
otherwise the same. So whatever is missing here is a sentence, never a failure. STREAMHUB_COMPILED=off leaves it out.
"""

import contextlib
import shutil
import sys
import sysconfig
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent


class WithoutError(Exception):
    """The reason why there is no compiled form, as it reads behind "because"."""


def compile_core(root: Path, target: Path) -> list[Path]:
    """Build into the folder `target`, replacing what it had; the files that it has now. Raises WithoutError."""
    sys.path.insert(0, str(root))
    try:
        from streamhub import core  # noqa: PLC0415 - of the source that is built
    finally:
        sys.path.remove(str(root))
    if not core.compiled_is_allowed():
        raise WithoutError("STREAMHUB_COMPILED is off")
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise WithoutError(f"there is no C compiler ({compiler})")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise WithoutError("Python's headers are not installed (python3-dev)")
    try:
        cythonize: Any = import_module("Cython.Build").cythonize  # build requirements, which a checkout may lack
        from setuptools import Distribution, Extension  # noqa: PLC0415
    except ImportError as error:
        raise WithoutError(f"{error.name} is not installed") from None
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(root):
        # More than -O1 takes twice as long and gains nothing: most of the time is Python's own.
        extensions = [
            Extension(f"streamhub.core.{name}", [f"streamhub/core/{name}.py"], extra_compile_args=["-O1", "-g0"])
            for name in core.COMPILED_MODULES
        ]
        try:
            built = cythonize(
                extensions, build_dir=scratch, quiet=True, force=True,
                # What mypy is told is no C type: those stand in the .pxd files alone.
                compiler_directives={"language_level": 3, "annotation_typing": False},
            )  # fmt: skip
            command = Distribution({"ext_modules": built}).get_command_obj("build_ext")
            command.build_lib, command.build_temp, command.parallel = f"{scratch}/lib", f"{scratch}/temp", True
            command.ensure_finalized()
            command.run()
        except Exception as error:  # a compiler's failure, whatever it is, must not stop an installation
            raise WithoutError(f"compiling failed: {error}") from error
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in Path(scratch, "lib/streamhub/core").iterdir():
            shutil.copy(file, target)
    (target / core.SOURCE).write_text(core.digest_of_source(), encoding="ascii")
    return sorted(target.iterdir())


class CustomBuildHook(BuildHookInterface[Any]):
    """Hatchling's: an editable installation gets it in the checkout, a wheel gets it packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        self._scratch = tempfile.TemporaryDirectory()
        folder = "streamhub/core/compiled"
        target = root / folder if version == "editable" else Path(self._scratch.name, "compiled")
        try:
            files = compile_core(root, target)
        except WithoutError as why:
            self.app.display_warning(_without(why))
            return
        if version != "editable":
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"].update({str(file): f"{folder}/{file.name}" for file in files})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        self._scratch.cleanup()


def _without(why: WithoutError) -> str:
    return f"The core is not compiled, because {why}. Streamhub is slower without, and otherwise the same."


if __name__ == "__main__":
    try:
        compile_core(ROOT, ROOT / "streamhub/core/compiled")
    except WithoutError as reason:
        sys.exit(_without(reason))
