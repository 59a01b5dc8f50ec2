"""Findings in plain words, with the numbers that they rest on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from jaxtask.report.escapes import markdown

if TYPE_CHECKING:
    from jaxtask.analysis.findings import Findings, Pooled
    from jaxtask.analysis.groups import Separation

# Pairs and inclusions that are listed.
_LISTED = 5
_LEVEL = 0.05


def summary(findings: "Findings") -> str:
    """All sections, as Markdown."""
    lines = ["# Findings", ""]
    for title, section in sections(findings):
        lines += [f"## {title}", "", *(f"- {markdown(line)}" for line in section), ""]
    return "\n".join(lines)


def sections(findings: "Findings") -> Iterator[tuple[str, list[str]]]:
    """Titles, and the sentences below them."""
    yield "What was compared", _compared(findings)
    yield "Similar tasks", list(_alike(findings))
    if findings.separation is not None:
        yield "Separation of groups", _groups(findings.separation)
    if findings.inclusion is not None:
        yield "Inclusion", list(_inclusions(findings))
    if findings.notes:
        yield "Caveats", list(findings.notes)


def _compared(findings: "Findings") -> list[str]:
    about = findings.about
    base = about.get("base_model") or "an unknown base model"
    modules = ", ".join(about["modules"][:6]) + (", …" if len(about["modules"]) > 6 else "")
    equal = about["weights"] == "equal"
    weighting = "all module types equally" if equal else "modules by the norm of their updates"
    return [
        f"{len(findings.tasks)} adapters of {base}: {len(about['layers'])} layers, "
        f"{len(about['modules'])} module types ({modules}).",
        f"Pooled means weight {weighting}. 95% intervals: {about['resamples']:,} bootstrap samples "
        "of the layers. Null model: a random update of the same dimensions, rank and norm.",
    ]


def _alike(findings: "Findings") -> Iterator[str]:
    name = findings.maps.variable if findings.maps else next(iter(findings.pooled))
    pooled = findings.pooled[name]
    order = _order(pooled)
    nearest = order[::-1] if pooled.towards == "large" else order
    shown = [*nearest[:_LISTED], *nearest[_LISTED:][-1:]]
    words = [f"Most alike, by {name}:", *["Then"] * (_LISTED - 1), "Least alike:"]
    for word, (i, j) in zip(words, shown, strict=False):
        yield f"{word} {_pair(findings, pooled, i, j)}"
    for variable, cells in findings.cells.items():
        if variable in (name, "cosine", "rec", "energy_core"):
            yield (
                f"{variable}: {cells.significant:,} of {cells.tested:,} cells (layer, module, "
                f"pair) are more alike than the null, at a false discovery rate of {cells.level:g}."
            )
    for (a, b), rho in findings.agreement.items():
        if (a, b) == (name, "cosine") and np.isfinite(rho):
            yield (
                f"{a} and {b} have a rank correlation of {rho:.2f} over pairs (−1: the same "
                "order, since one of them is a distance)."
            )


def _order(pooled: "Pooled") -> list[tuple[int, int]]:
    i, j = np.triu_indices(len(pooled.values), 1)
    values = pooled.values[i, j]
    known = np.flatnonzero(np.isfinite(values))
    return [(int(i[n]), int(j[n])) for n in known[np.argsort(values[known], kind="stable")]]


def _pair(findings: "Findings", pooled: "Pooled", i: int, j: int) -> str:
    text = f"{findings.tasks[i]} and {findings.tasks[j]}, {pooled.values[i, j]:.4g}"
    if np.isfinite(pooled.low[i, j]):
        text += f" (95%: {pooled.low[i, j]:.4g} to {pooled.high[i, j]:.4g})"
    if pooled.chance is not None and pooled.p is not None and np.isfinite(pooled.p[i, j]):
        text += f", null mean {pooled.chance[i, j]:.4g}, p {probability(pooled.p[i, j])}"
    return text


def _groups(apart: "Separation") -> list[str]:
    test = apart.test
    within = ", ".join(
        f"{d:.4g} within {group}" for group, d in apart.within.items() if np.isfinite(d)
    )
    words = "are separated" if test.p <= _LEVEL else "are not separated from random labels"
    how = "all labelings" if test.exact else f"{test.permutations:,} permutations"
    return [
        f"By {apart.variable}, the groups {words}: PERMANOVA F = {test.F:.3g}, R² = {test.R2:.3f}, "
        f"p {probability(test.p)} ({how}).",
        f"Mean silhouette {apart.mean_silhouette:.3f} (from −1 to 1), "
        f"p {probability(test.silhouette_p)}.",
        f"Mean distance {within}; {apart.between:.4g} between groups.",
    ]


def _inclusions(findings: "Findings") -> Iterator[str]:
    found = findings.inclusion
    assert found is not None
    tasks = findings.tasks
    words, held = found.direction, found.parts[found.decided_by]
    pairs = len(tasks) * (len(tasks) - 1) // 2
    yield (
        f"Of {pairs} pairs, {int((words == 'includes').sum())} have a task that includes the other "
        "one, more than the reverse and more than the null, and "
        f"{int((words == 'equal').sum()) // 2} are equal, by {found.decided_by}. Percentages are "
        "shares of the target's update; 0% is the null mean. A direction can be significant "
        "although the percentage is small."
    )
    i, j = np.nonzero(words == "includes")
    order = np.argsort(-found.lead[i, j], kind="stable")
    for n in order[:_LISTED]:
        a, b = i[n], j[n]
        yield (
            f"{tasks[a]} captures {held[a, b]:.1%} of {tasks[b]}'s update beyond the null; "
            f"{tasks[b]} captures {held[b, a]:.1%} of {tasks[a]}'s "
            f"(difference {found.lead_low[a, b]:.1%} to {found.lead_high[a, b]:.1%}, adjusted "
            f"p {probability(found.p_adjusted[a, b])}); scores {found.score[a, b]:.3f} and "
            f"{found.score[b, a]:.3f}."
        )
    if len(order) > _LISTED:
        yield f"and {len(order) - _LISTED} more."


def probability(p: float) -> str:
    """A p value as people write it, after its "p"."""
    return f"= {p:.3f}" if p >= 0.001 else f"= {p:.0e}" if p > 1e-15 else "< 1e-15"
