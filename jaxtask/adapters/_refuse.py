"""Refusing a kind of adapter whose ΔW is not s·B·A, or taking its direction on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtask.adapters._fields import Refusal
from jaxtask.errors import AdapterError


def settle(refusals: Sequence[Refusal], directional: bool, file: Path) -> str | None:
    """None when there is nothing to refuse, else the label of a directional reading.

    Raises `AdapterError` naming the first reason when `directional` is not set, or when s·B·A would
    not even be a direction.
    """
    for refusal in refusals:
        if not directional or not refusal.takable:
            offer = (
                " (directional=True takes s·B·A as it stands, labelled approximate)"
                if refusal.takable
                else ""
            )
            raise AdapterError(f"{file}: {refusal.what} is refused: {refusal.why}{offer}.")
    if not refusals:
        return None
    reasons = "; ".join(f"{r.what}: {r.why}" for r in dict.fromkeys(refusals))
    return f"s·B·A taken as the direction only ({reasons})"
