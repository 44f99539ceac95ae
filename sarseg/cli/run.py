"""`sarseg run`: the line over a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import UsageError

if TYPE_CHECKING:
    from sarseg.batch.config import Pipeline


@click.command("run")
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option("--input", "downloads", type=click.Path(path_type=Path), help="Folder with the downloads, else the key `input`.")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), help="Folder for all that is made, else the key `output`.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(pipeline: Path, downloads: Path | None, out: Path | None, as_json: bool) -> None:
    """Run the whole line over a folder of downloads.

    PIPELINE is a YAML file: the DEM, the labels, and the options of the steps, one key each. Relative paths in it are looked
    up in the input folder. Every scene there is preprocessed, products that are on the map (JAXA mosaics, HyP3, OPERA ...) are
    taken as they are; all are labelled, one model is trained and maps each; the maps become one mosaic, whose accuracy is
    measured on the ground that was kept out of the training.

    Steps that are done are skipped, so a run that was stopped or killed is simply repeated. A scene that fails does not stop
    the others: the exit code is then 5.

    Example: sarseg run pipelines/demo.yaml --input downloads -o result
    """
    from sarseg.batch.config import read_pipeline
    from sarseg.batch.run import run_pipeline

    checked = read_pipeline(pipeline)
    with progress_bar() as progress:
        outcome = run_pipeline(checked, _folder(checked, downloads, "input"), _folder(checked, out, "output"), progress)
    if as_json:
        echo_json(outcome.to_dict())
    else:
        click.echo(f"map: {outcome.landcover}")
        if outcome.accuracy is not None:
            click.echo(f"accuracy: {outcome.accuracy}")
    outcome.check()


def _folder(pipeline: Pipeline, given: Path | None, key: str) -> Path:
    folder: Path | None = given or getattr(pipeline.inputs, key)
    if folder is None:
        raise UsageError(f"no {key} folder", pipeline.path, f"give --{key}, or the key `{key}`")
    return folder
