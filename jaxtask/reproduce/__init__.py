"""An experiment once more: from corpora and a base model to findings over several seeds."""
