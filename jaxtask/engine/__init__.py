"""Plan, compile and run the comparison of a bank, and keep its result."""

from jaxtask.engine.compare import compare as compare
from jaxtask.engine.zarr_store import open_result as open_result
from jaxtask.engine.zarr_store import save as save
