"""How the package's build compiles the native library; nothing imports this at run time."""

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

_GCC = ["-std=c++17", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
_GCC += ["-Wno-psabi", "-Wno-ignored-attributes", "-Wno-unknown-warning-option"]


class BuildNative(build_ext):
    """`build_ext` with the headers of the jaxlib that is there, and one source a core at a time."""

    def build_extension(self, ext: Any) -> None:
        """Compile and link; the caller takes a failure as there being no native library."""
        if self.compiler.compiler_type == "msvc":
            raise CompileError("the native library needs GCC or Clang")
        jaxlib = find_spec("jaxlib")
        if jaxlib is None or jaxlib.origin is None:
            raise CompileError("the native library needs jaxlib's headers")
        ext.include_dirs.append(str(Path(jaxlib.origin).parent / "include"))
        ext.extra_compile_args = _GCC
        ext.extra_link_args = ["-pthread"]
        compile_one = self.compiler.compile

        def compile_all(sources: list[str], *args: Any, **kwargs: Any) -> list[str]:
            with ThreadPoolExecutor() as pool:
                made = pool.map(lambda source: compile_one([source], *args, **kwargs), sources)
                return [name for names in made for name in names]

        self.compiler.compile = compile_all
        try:
            super().build_extension(ext)
        finally:
            self.compiler.compile = compile_one
