"""The whole way once, small enough for two cores: corpus, base model, tasks, adapters, findings."""
