"""How fine-tuning tasks relate, measured from their LoRA adapters.

The public names, imported on first use: reading adapters needs no JAX, and comparing them needs
neither transformers nor flax.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jaxtask.version import __version__ as __version__

if TYPE_CHECKING:
    from jaxtask import metrics as metrics
    from jaxtask.adapters import AdapterBank as AdapterBank
    from jaxtask.adapters import LowRankUpdate as LowRankUpdate
    from jaxtask.adapters import ModuleKey as ModuleKey
    from jaxtask.adapters import export_adapter as export_adapter
    from jaxtask.adapters import load_adapters as load_adapters
    from jaxtask.analysis import pool as pool
    from jaxtask.analysis.findings import analyze as analyze
    from jaxtask.engine import compare as compare
    from jaxtask.engine import open_result as open_result
    from jaxtask.engine import save as save
    from jaxtask.errors import AdapterError as AdapterError
    from jaxtask.errors import AnalysisError as AnalysisError
    from jaxtask.errors import JaxtaskError as JaxtaskError
    from jaxtask.errors import ResultError as ResultError
    from jaxtask.extract import from_checkpoints as from_checkpoints
    from jaxtask.finetune.recipe.files import read_recipe as read_recipe
    from jaxtask.finetune.run import fine_tune as fine_tune
    from jaxtask.metrics import metric as metric
    from jaxtask.report.findings_json import read_findings as read_findings

_HOME = {
    "AdapterBank": "jaxtask.adapters",
    "AdapterError": "jaxtask.errors",
    "AnalysisError": "jaxtask.errors",
    "JaxtaskError": "jaxtask.errors",
    "LowRankUpdate": "jaxtask.adapters",
    "ModuleKey": "jaxtask.adapters",
    "ResultError": "jaxtask.errors",
    "analyze": "jaxtask.analysis.findings",
    "compare": "jaxtask.engine",
    "export_adapter": "jaxtask.adapters",
    "fine_tune": "jaxtask.finetune.run",
    "from_checkpoints": "jaxtask.extract",
    "load_adapters": "jaxtask.adapters",
    "metric": "jaxtask.metrics",
    "open_result": "jaxtask.engine",
    "pool": "jaxtask.analysis",
    "read_findings": "jaxtask.report.findings_json",
    "read_recipe": "jaxtask.finetune.recipe.files",
    "save": "jaxtask.engine",
}

__all__ = ["metrics", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("jaxtask.metrics")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'jaxtask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
