"""Execute the notebooks in place: python notebooks/execute.py [NOTEBOOK ...].

Their outputs are stored, so that they show figures where they are read, without what differs from
run to run: times and versions.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

HOME = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# Figures without the name and version of what drew them.
SETUP = """
from IPython import get_ipython
get_ipython().run_line_magic("matplotlib", "inline")
get_ipython().run_line_magic(
    "config", "InlineBackend.print_figure_kwargs = {'metadata': {'Software': None}}"
)
"""


def execute(path: Path) -> None:
    """Run a notebook from top to bottom, and write it with its outputs if no cell fails."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(SETUP))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder
        NotebookClient(
            notebook,
            config=Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"}),
            resources={"metadata": {"path": str(HOME)}},
            record_timing=False,
            coalesce_streams=True,
        ).execute()
    del notebook.cells[0]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.metadata = {}
        cell.execution_count = number
        for output in cell.outputs:
            output.pop("execution_count", None)
    notebook.metadata = METADATA
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HOME.glob("*.ipynb")):
        execute(path)
        print(path)
