"""From task folders to batches of token ids."""
