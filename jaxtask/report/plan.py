"""What a comparison will take, as a table."""

from typing import Any

from rich.table import Table


def plan_table(plan: dict[str, Any]) -> Table:
    """One row a bucket of modules of one shape, from what `jaxtask compare --dry-run` says."""
    table = Table(title=f"{plan['tasks']} tasks × {plan['modules']} modules", title_justify="left")
    for column in ("out × in, rank", "modules", "tiles", "cells", "read", "GFLOP", "seconds"):
        table.add_column(column, justify="right")
    for bucket in plan["buckets"]:
        table.add_row(
            f"{bucket['d_out']} × {bucket['d_in']}, {bucket['rank']}",
            f"{bucket['modules']:,}",
            f"{bucket['tiles']:,} of {bucket['tasks_per_block']} × {bucket['tasks_per_block']}",
            f"{bucket['cells']:,}",
            size(bucket["bytes_read"]),
            f"{sum(bucket['gigaflops'].values()):,.1f}",
            f"{bucket['seconds']:,.1f}",
        )
    return table


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """All else that is to be said of it."""
    seconds = plan["seconds"]
    lines = [
        f"time: {seconds['in_all']:,.1f} s on {plan['device']} ({seconds['compile']:,.1f} to "
        f"compile, {seconds['check_adapters']:,.1f} to check the adapters, "
        f"{seconds['compare']:,.1f} to compare), from a tile or two of each shape",
        f"{plan['gram_share_of_time']:.0%} of the time to compare are Gram products at the "
        f"{plan['matrix_rate_gigaflops']:,.0f} GFLOP/s that matrix products reach here",
        f"memory: at most {size(plan['bytes_held_at_most'])}, besides compiled code",
    ]
    if plan["known_tasks"]:
        lines.append(f"of these tasks, {plan['known_tasks']} are compared with each other already")
    if plan["out"] is None:
        lines.append("the result stays in memory: " + size(plan["bytes_written_at_most"]))
    else:
        lines.append(
            f"written to {plan['out']}: at most {size(plan['bytes_written_at_most'])} before "
            f"compression, {size(plan['bytes_free_there'] or 0)} are free there"
        )
    return lines


def size(number: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
