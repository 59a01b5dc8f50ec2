"""Reading LoRA adapters: module keys, low-rank updates, and banks of adapters."""

from jaxtask.adapters.adapter import Adapter as Adapter
from jaxtask.adapters.adapter import ModuleShape as ModuleShape
from jaxtask.adapters.bank import AdapterBank as AdapterBank
from jaxtask.adapters.bank import ModuleStack as ModuleStack
from jaxtask.adapters.export import export_adapter as export_adapter
from jaxtask.adapters.factors import ModuleEntry as ModuleEntry
from jaxtask.adapters.keys import ModuleKey as ModuleKey
from jaxtask.adapters.keys import parse_module_path as parse_module_path
from jaxtask.adapters.load import load_adapters as load_adapters
from jaxtask.adapters.update import LowRankUpdate as LowRankUpdate
