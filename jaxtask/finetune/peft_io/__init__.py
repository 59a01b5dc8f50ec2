"""Adapters in PEFT's format, to and from parameters."""
