"""The command that says what this installation computes with."""

import json
from typing import Annotated, Any

import typer


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, no table.")
    ] = False,
) -> None:
    """Say which backends are active and why, and try them. Exit status 1 if something is broken."""
    from jaxtask.doctor import examine

    report = examine()
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        from rich.console import Console

        console = Console()
        problems = report.pop("problems")
        for name, found in report.items():
            _print(console, name, found)
        for problem in problems or ["nothing is broken"]:
            sign = "broken: " if problems else ""
            console.print(sign + problem, markup=False, highlight=False, soft_wrap=True)
        report["problems"] = problems
    if report["problems"]:
        raise typer.Exit(1)


def _print(console: Any, name: str, found: Any, indent: str = "") -> None:
    def line(text: str) -> None:
        console.print(indent + text, markup=False, highlight=False, soft_wrap=True)

    if isinstance(found, dict):
        line(f"{name}:")
        for key, value in found.items():
            _print(console, key, value, indent + "  ")
    elif isinstance(found, list):
        line(f"{name}: {'; '.join(found)}")
    else:
        line(f"{name}: {found}")
