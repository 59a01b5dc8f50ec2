"""The command that analyzes a result: arguments in, calls to the library, tables and files out."""

from pathlib import Path
from typing import Annotated, Any

import typer

import jaxtask as jt
from jaxtask.cli.shared import AsJson
from jaxtask.names import check_path
from jaxtask.terminal import print_json, standard_output
from jaxtask.text_files import read_yaml


def analyze(
    result: Annotated[Path, typer.Argument(help="A result of `jaxtask compare --out`.")],
    groups: Annotated[
        Path | None, typer.Option(help="YAML file of tasks by group: {group: [task, …]}.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all numbers, tables and a summary to this folder.")
    ] = None,
    pairs: Annotated[
        str,
        typer.Option(help="Ordered pairs of the table, as SOURCE:TARGET,SOURCE:TARGET."),
    ] = "",
    distance: Annotated[
        str, typer.Option(show_default="grassmann_out", help="Distance for groups and maps.")
    ] = "",
    weights: Annotated[
        str,
        typer.Option(
            help='Weights of layers and modules in pooled means: "equal", or "norm" of the updates.'
        ),
    ] = "equal",
    permutations: Annotated[
        int, typer.Option(help="Permutations of group labels.", min=1, max=10**7)
    ] = 9999,
    seed: Annotated[
        int, typer.Option(help="Random seed for permutations and bootstrap.", min=0)
    ] = 0,
    figures: Annotated[
        str, typer.Option("--format", help="Also draw figures: pdf, png or svg; needs --out.")
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing findings.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Analyze a result against null models.

    Finds similar tasks, groups and inclusion, and tests each.
    """
    from jaxtask.report.figures import FORMATS
    from jaxtask.report.findings import check_folder, write_findings

    if out is not None:
        check_folder(out, overwrite=overwrite)
    if figures and (out is None or figures not in FORMATS):
        raise jt.JaxtaskError(
            f"--format {figures}: expected one of {', '.join(FORMATS)}, together with --out"
        )
    ds = jt.open_result(result)
    tasks = [str(task) for task in ds["source"].values]
    chosen = None
    if pairs:
        from jaxtask.report.pairs import named_pairs

        chosen = named_pairs(pairs, tasks)
    found = jt.analyze(
        ds,
        None if groups is None else read_groups(groups),
        distance=distance or None,
        weights=weights,  # type: ignore[arg-type]
        permutations=permutations,
        seed=seed,
    )
    if out is not None:

        def draw(folder: Path) -> None:
            from jaxtask.report.figures import draw_figures

            (folder / "figures").mkdir()
            draw_figures(ds, found, folder / "figures", figures, chosen)

        write_findings(
            found, out, pairs=chosen, overwrite=overwrite, draw=draw if figures else None
        )
    _show(found, chosen, as_json)
    if out is not None and not as_json:
        standard_output().print(f"Written: {out}", soft_wrap=True)


def read_groups(path: Path) -> dict[str, list[str]]:
    """Tasks by group, from a YAML file.

    Raises:
        AnalysisError: The file cannot be read, or is not of this form.

    """
    found = read_yaml(check_path(path, "groups", jt.AnalysisError), jt.AnalysisError)
    if not isinstance(found, dict):
        raise jt.AnalysisError(
            f"{path}: found {type(found).__name__}, expected groups: {{group: [task, …]}}"
        )
    for group, tasks in found.items():
        # A name of digits alone need not be quoted.
        if not isinstance(tasks, list) or any(type(t) not in (str, int) for t in tasks):
            raise jt.AnalysisError(f"{path}: group {group!r:.100}: expected a list of task names")
    return {str(group): [str(task) for task in tasks] for group, tasks in found.items()}


def _show(found: Any, pairs: list[tuple[int, int]] | None, as_json: bool) -> None:
    if as_json:
        from jaxtask.report.findings_json import plain

        print_json(plain(found))
        return
    from jaxtask.cli.tables import print_sections
    from jaxtask.report.talk import default_pairs, talk_rows, talk_table

    console = standard_output()
    print_sections(found, console)
    if "rec" in found.pooled:
        rows = talk_rows(found, default_pairs(found) if pairs is None else pairs)
        console.print(talk_table(rows))
