"""Results and adapters as a person reads them."""

from jaxtask.report.tables import adapter_table as adapter_table
from jaxtask.report.tables import default_variables as default_variables
from jaxtask.report.tables import pooled_json as pooled_json
from jaxtask.report.tables import pooled_tables as pooled_tables
