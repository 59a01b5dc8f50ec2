"""How each tool stores adapters."""
