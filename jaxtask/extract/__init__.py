"""Fully fine-tuned checkpoints as low-rank task vectors."""

from jaxtask.extract.difference import from_checkpoints as from_checkpoints
