"""What trained tasks say on held-out examples, and how it is scored."""
