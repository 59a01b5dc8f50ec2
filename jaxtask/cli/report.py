"""The command that reports a result: arguments in, calls to the library, a page or figures out."""

from pathlib import Path
from typing import Annotated

import typer

import jaxtask as jt
from jaxtask.cli.analyze import read_groups
from jaxtask.cli.shared import split
from jaxtask.terminal import standard_output


def report(
    result: Annotated[Path, typer.Argument(help="A result of `jaxtask compare --out`.")],
    out: Annotated[
        Path, typer.Option(help="The HTML file, or the folder for figures of another format.")
    ],
    findings: Annotated[
        Path | None,
        typer.Option(
            show_default="analyze the result",
            help="Findings that `jaxtask analyze --out` wrote.",
        ),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="YAML file of tasks by group: {group: [task, …]}.")
    ] = None,
    pairs: Annotated[
        str,
        typer.Option(
            show_default="the 20 most telling",
            help="Pairs to show in detail, as TASK:TASK,TASK:TASK.",
        ),
    ] = "",
    maps: Annotated[
        str,
        typer.Option(
            show_default="as many as fit",
            help="Comma-separated variables to include layer by layer and module by module.",
        ),
    ] = "",
    form: Annotated[
        str,
        typer.Option("--format", help="html, or figures for papers: pdf, png or svg."),
    ] = "html",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing page or figures.")
    ] = False,
) -> None:
    """Create a report of a result.

    It is one HTML page that opens offline, or figures for papers.
    """
    from jaxtask.analysis import poolable
    from jaxtask.analysis.findings import check_origin
    from jaxtask.report.figures import FORMATS, check_figures, write_figures
    from jaxtask.report.page import check_file, check_variables, write_page
    from jaxtask.report.pairs import named_pairs

    if form not in ("html", *FORMATS):
        raise jt.JaxtaskError(f"--format {form}: expected html, {', '.join(FORMATS)}")
    if maps and form != "html":
        raise jt.JaxtaskError("--maps is of the page; figures have none of them")
    if findings is not None and groups is not None:
        raise jt.JaxtaskError(
            "--groups and --findings: found both, expected one (findings have their groups, see "
            "`jaxtask analyze --groups`)"
        )
    # Checked before the long work.
    if form == "html":
        check_file(out, overwrite=overwrite)
    else:
        check_figures(out, overwrite=overwrite)
    ds = jt.open_result(result)
    with_maps = split(maps)
    check_variables(with_maps, poolable(ds))
    chosen = named_pairs(pairs, [str(t) for t in ds["source"].values]) if pairs else None
    if findings is None:
        found = jt.analyze(ds, None if groups is None else read_groups(groups))
    else:
        found = jt.read_findings(findings)
        check_origin(found, ds)
    console = standard_output()
    if form == "html":
        write_page(ds, found, out, pairs=chosen, with_maps=with_maps or None, overwrite=overwrite)
        size = out.stat().st_size / 1e6
        console.print(f"Written: {out} ({size:.1f} MB)", soft_wrap=True)
        return
    told = write_figures(ds, found, out, form, pairs=chosen, overwrite=overwrite)
    for name, file in told.items():
        console.print(f"{name}: {file}", soft_wrap=True)
