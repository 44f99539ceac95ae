"""`sarseg train`: a dataset in, a model folder out."""

from __future__ import annotations

from pathlib import Path

import click

from sarseg.cli.common import echo_json, progress_bar


@click.command("train")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="The model folder to write.")
@click.option("--net", default="compact_unet", show_default=True, help="The network.")
@click.option("--width", type=click.IntRange(min=1), help="Channels of its first level; the network's own default when absent.")
@click.option("--depth", type=click.IntRange(min=0), help="How often it halves the image.")
@click.option(
    "--stem", type=click.IntRange(min=1), help="Side of the pixel block that its first convolution takes as one: 2 costs a quarter of 1."
)
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help="Steps of the optimiser.")
@click.option("--epochs", type=float, help="Instead of --steps: how often every patch is seen.")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Patches a step.")
@click.option("--lr", type=float, default=4e-3, show_default=True, help="Highest learning rate.")
@click.option(
    "--class-weights", type=click.Choice(["none", "inverse-sqrt"]), default="none", show_default=True, help="Weights of rare classes."
)
@click.option(
    "--validations", type=click.IntRange(min=1), default=4, show_default=True, help="How often the validation patches are scored."
)
@click.option("--turns/--no-turns", default=True, show_default=True, help="Mirror and turn the patches.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, threads and machine: same model.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; torch decides when absent.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    dataset: Path,
    out: Path,
    net: str,
    width: int | None,
    depth: int | None,
    stem: int | None,
    steps: int,
    epochs: float | None,
    batch: int,
    lr: float,
    class_weights: str,
    validations: int,
    turns: bool,
    seed: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train a network on DATASET and write a model folder.

    DATASET is a folder that `sarseg patches` wrote, or one with images/ and masks/. The model folder holds
    model.safetensors, model.json and metrics.csv: all that `sarseg predict` needs. The weights kept are those that scored
    best on the validation patches.

    Example: sarseg train dataset -o model --steps 600 --seed 1
    """
    from sarseg.nets.modelfile import read_spec
    from sarseg.train.augment import Augmentation
    from sarseg.train.loop import TrainOptions, train

    sizes = {"width": width, "depth": depth, "stem": stem}
    options = TrainOptions(
        net=net,
        net_options={name: value for name, value in sizes.items() if value is not None},
        steps=steps,
        epochs=epochs,
        batch=batch,
        lr=lr,
        class_weights="inverse-sqrt" if class_weights == "inverse-sqrt" else "none",
        validations=validations,
        augmentation=Augmentation(turns=turns),
        seed=seed,
        threads=threads,
    )
    with progress_bar() as progress:
        folder = train(dataset, out, options, progress)
    spec = read_spec(folder)
    if as_json:
        echo_json({"model": folder, "metrics": spec.metrics})
        return
    click.echo(f"model: {folder}")
    validation = spec.metrics.get("validation")
    if validation and validation["scored_pixels"]:
        click.echo(f"validation: overall accuracy {validation['overall_accuracy']:.3f}, mean IoU {validation['mean_iou']:.3f}")
