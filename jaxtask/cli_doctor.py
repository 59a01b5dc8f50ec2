"""The command that says what this installation computes with."""

from typing import Annotated, Any

import typer

from jaxtask.terminal import print_json, standard_output


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON on standard output, no table.")
    ] = False,
) -> None:
    """Say which backends are active and why, and try them. Exit status 1 if something is broken."""
    from jaxtask.doctor import examine

    report = examine()
    if as_json:
        print_json(report)
    else:
        console = standard_output()
        problems = report.pop("problems")
        for name, found in report.items():
            _print(console, name, found)
        for problem in problems or ["nothing is broken"]:
            sign = "broken: " if problems else ""
            console.print(sign + problem, soft_wrap=True)
        report["problems"] = problems
    if report["problems"]:
        raise typer.Exit(1)


def _print(console: Any, name: str, found: Any, indent: str = "") -> None:
    def line(text: str) -> None:
        console.print(indent + text, soft_wrap=True)

    if isinstance(found, dict):
        line(f"{name}:")
        for key, value in found.items():
            _print(console, key, value, indent + "  ")
    elif isinstance(found, list):
        line(f"{name}: {'; '.join(found)}")
    else:
        line(f"{name}: {found}")
