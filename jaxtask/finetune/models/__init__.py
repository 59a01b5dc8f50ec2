"""Base models: what they are, how they compute, and how their weights are read."""
