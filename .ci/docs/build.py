"""Build the API reference and the guides beside the code: python .ci/docs/build.py FOLDER.

A page for each public package, with its README and the names in its `__all__`, and one for each
other README. Warnings and links that lead nowhere are errors.
"""

import inspect
import os
import re
import shutil
import sys
import warnings
from pathlib import Path
from types import ModuleType

import jax
import pdoc
from numpy.typing import ArrayLike

import jaxtask
import jaxtask.metrics
import jaxtask_kernels

ROOT = Path(__file__).parents[2]
API = {ROOT: jaxtask, ROOT / "jaxtask/metrics": jaxtask.metrics, ROOT / "kernels": jaxtask_kernels}
LINK = re.compile(r"(?<![\w\]])\[([^\]]+)\]\((?!https?:)([^)]+)\)")


def pages() -> dict[Path, ModuleType]:
    """The folder of a README → what its page is of; guides are modules without members."""
    found = dict(API)
    for readme in sorted((ROOT / "jaxtask").rglob("README.md")):
        if readme.parent not in found:
            name = ".".join(readme.parent.relative_to(ROOT).parts)
            found[readme.parent] = ModuleType(name)
            found[readme.parent].__all__ = []
    return found


def guide(folder: Path, among: dict[Path, ModuleType]) -> str:
    """A README without its title; links to others become links to their pages, or plain text."""
    own = among[folder].__name__

    def linked(link: re.Match[str]) -> str:
        target = (folder / link[2].partition("#")[0]).resolve()
        if not target.exists():
            raise FileNotFoundError(f"{folder / 'README.md'}: a link leads to {link[2]}")
        if target.name != "README.md" or target.parent not in among:
            return link[1]
        page = among[target.parent].__name__.replace(".", "/") + ".html"
        return f"[{link[1]}]({os.path.relpath(page, Path(own.replace('.', '/')).parent)})"

    _, _, text = (folder / "README.md").read_text(encoding="utf-8").partition("\n")
    return LINK.sub(linked, text)


def name_types() -> None:
    """Show types by the names that users know them by."""
    jax.Array.__qualname__ = "Array"  # not "jaxlib._jax.Array"
    format_ = inspect.formatannotation
    # Written out in full by some versions of NumPy.
    long = [text for text in (repr(ArrayLike), format_(ArrayLike)) if "[" in text]

    def shorter(*args: object, **options: object) -> str:
        text = format_(*args, **options)
        for spelled_out in long:
            text = text.replace(spelled_out, "numpy.typing.ArrayLike")
        return text

    inspect.formatannotation = shorter


def build(out: Path) -> None:
    """Write all pages to a folder, in place of what was there."""
    among = pages()
    for folder, module in among.items():
        module.__doc__ = f"{module.__doc__ or ''}\n\n{guide(folder, among)}"
    for name in jaxtask.__all__:  # else they are there on first use only
        setattr(jaxtask, name, getattr(jaxtask, name))
    name_types()
    pdoc.render.configure(
        docformat="google",
        footer_text=f"jaxtask {jaxtask.__version__}",
        template_directory=Path(__file__).parent,
    )
    modules = {module.__name__: pdoc.doc.Module(module) for module in among.values()}
    shutil.rmtree(out, ignore_errors=True)
    for name, module in modules.items():
        page = out / f"{name.replace('.', '/')}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        html = pdoc.render.html_module(module, modules)
        public = [n for n in module.obj.__all__ if f"{name}.{n}" not in modules]
        missing = [n for n in public if not re.search(f'id="{n}"|<strong>{n}:', html)]
        assert not missing, f"{name}: its page lacks {', '.join(missing)}"
        page.write_text(html, encoding="utf-8")
    (out / "index.html").write_text(pdoc.render.html_index(modules), encoding="utf-8")
    (out / "search.js").write_text(pdoc.render.search_index(modules), encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("error")
    build(Path(sys.argv[1]))
