"""Plan, compile and run the comparison of a bank, and keep its result."""

from jaxtask.engine.comparison import compare as compare
from jaxtask.engine.store import open_result as open_result
from jaxtask.engine.store import save as save
