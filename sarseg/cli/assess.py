"""`sarseg assess`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("path", metavar="MAP|MODEL", type=_FILE)
@click.option("--truth", type=_FILE, metavar="FILE", help="For a map: class raster with the map's classes, on any grid.")
@click.option("--dataset", type=_FILE, metavar="FOLDER", help="For a model: the dataset on whose patches it is judged.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Which of the dataset's patches; val when absent.")
@click.option("--baselines/--no-baselines", default=None, help="Judge baselines beside the model, fitted on the training patches.")
@click.option("--legend", type=_FILE, metavar="YAML", help="Classes of the truth, where its file does not name them.")
@click.option("--bounds", type=float, nargs=4, metavar="XMIN YMIN XMAX YMAX", help="Score this region only, in the map's CRS.")
@click.option("-o", "--out", type=_FILE, help="Write the result: for a map JSON, beside it CSV and PNG; for a model a folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    path: Path,
    truth: Path | None,
    dataset: Path | None,
    split: str | None,
    baselines: bool | None,
    legend: Path | None,
    bounds: tuple[float, float, float, float] | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compare the map MAP (folder or class raster) with the truth, or judge the model MODEL on a dataset's patches.

    Prints the accuracies of every class, overall accuracy, kappa and means, beside the answers that need no network. Each
    pixel counts once; pixels of a map without label or without class are counted apart. For a model it also prints the
    expected calibration error (ECE), and -o writes evaluation.json, evaluation.csv and confusion.png.

    \b
    Examples:
      sarseg assess maps/S1A_... --truth truth.tif --bounds 500000 4640000 510000 4650000 -o accuracy.json
      sarseg assess model --dataset dataset --split test -o evaluation
    """
    from sarseg.cli.common import echo_json, progress_bar
    from sarseg.cli.kinds import kind_of
    from sarseg.errors import UsageError
    from sarseg.legend import Legend

    if (truth is None) == (dataset is None):
        said = "both --truth and --dataset are" if truth is not None else "neither --truth nor --dataset is"
        raise UsageError(f"{said} given", hint="a map is compared with --truth FILE, a model is judged on --dataset FOLDER")
    wrong = {"--split": split, "--baselines": baselines} if truth is not None else {"--legend": legend, "--bounds": bounds}
    given = [name for name, value in wrong.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} does not go with --{'truth' if truth is not None else 'dataset'}")
    kind = kind_of(path)
    if truth is not None and kind == "model":
        hint = "make a map with `sarseg predict` and compare that, or judge the model with --dataset FOLDER"
        raise UsageError("is a model, and --truth is for a map", path, hint)
    if dataset is not None and (kind == "map" or path.is_file()):
        raise UsageError("is a map, and --dataset is for a model", path, "compare a map with --truth FILE")
    with progress_bar() as progress:
        if dataset is not None:
            from sarseg.assess.evaluate import evaluate

            found = evaluate(path, dataset, split or "val", out, baselines=baselines is not False, progress=progress)
            content, table = found.to_dict(), found.table()
        else:
            from sarseg.assess.accuracy import assess

            assert truth is not None
            names = Legend.from_file(legend) if legend is not None else None
            result = assess(path, truth, out, bounds=bounds, legend=names, progress=progress)
            content, table = result.to_dict(), result.table()
    if as_json:
        echo_json(content)
    else:
        click.echo(table)
