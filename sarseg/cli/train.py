"""`sarseg train`: a dataset in, a model folder out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import UsageError

_FILE = click.Path(path_type=Path)


@click.command("train")
@click.argument("dataset", type=_FILE)
@click.option("-o", "--output", "out", type=_FILE, required=True, help="The model folder to write.")
@click.option("--config", type=_FILE, metavar="YAML", help="Options as `key: value` lines; those of the command line win.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted training of the same options stopped.")
@click.option("--net", help="The network [compact_unet].")
@click.option("--net-option", "net_options", multiple=True, metavar="NAME=VALUE", help="An option of the network, e.g. width=16; repeat.")
@click.option("--weights", metavar="FILE|URL", help="Pretrained weights to start from.")
@click.option("--weights-sha256", metavar="HEX", help="Their checksum.")
@click.option("--steps", type=int, help="Steps of the optimiser [1000].")
@click.option("--epochs", type=float, help="Instead of --steps: how often every patch is seen.")
@click.option("--batch", type=int, help="Patches a step [8].")
@click.option("--micro-batch", type=int, help="Patches that go through the network at once [--batch over --devices].")
@click.option("--lr", type=float, help="Highest learning rate [0.004].")
@click.option("--weight-decay", type=float, help="Of AdamW [0.01].")
@click.option("--loss", metavar="FORMULA", help="ce, dice, focal, lovasz, or a sum such as ce+0.5*lovasz [ce].")
@click.option("--class-weights", type=click.Choice(["none", "inverse-sqrt"]), help="Weights of rare classes [none].")
@click.option("--label-smoothing", type=float, help="Share of a pixel's label that goes to all classes [0].")
@click.option("--clip", type=float, help="Largest norm of the gradient.")
@click.option("--ema", type=float, help="Decay of a running mean of the weights, which is kept in their place [0: off].")
@click.option("--validations", type=int, help="How often the validation patches are scored [4].")
@click.option("--patience", type=int, help="Stop after so many validations in a row without a better one.")
@click.option("--turns/--no-turns", "augmentation_turns", default=None, help="Mirror and turn the patches [yes].")
@click.option("--checkpoint-every", type=int, metavar="N", help="Steps between checkpoints, besides those at the validations.")
@click.option("--workers", type=int, help="Processes that load patches [0 on a CPU, several on a GPU].")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    help="auto: the fastest that the hardware does well [auto].",
)
@click.option("--compile/--no-compile", "compile", default=None, help="Compile the network first: minutes that pay in long runs on a GPU.")
@click.option("--devices", type=int, help="GPUs, or processes on a CPU [1].")
@click.option("--seed", type=int, help="Same seed, threads and machine: same model [0].")
@click.option("--threads", type=int, help="CPU threads; torch decides when absent.")
@click.option("--tensorboard", type=_FILE, metavar="DIR", help="Write events for TensorBoard there.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    dataset: Path,
    out: Path,
    config: Path | None,
    resume: bool,
    tensorboard: Path | None,
    as_json: bool,
    net_options: tuple[str, ...],
    **given: Any,
) -> None:
    """Train a network on DATASET and write a model folder.

    DATASET is a folder that `sarseg patches` wrote, or one with images/ and masks/. The model folder holds model.safetensors
    and model.json, all that `sarseg predict` needs, and metrics.csv and training.png, which say how it went. The weights
    kept are those that scored best on the validation patches. While it runs, the folder OUTPUT.training holds what
    --resume goes on from.

    \b
    Examples:
      sarseg train dataset -o model --steps 600 --seed 1
      sarseg train dataset -o model --net unet_resnet --net-option backbone=resnet50 --epochs 30 --resume
    """
    from sarseg.nets.modelfile import read_spec
    from sarseg.train.loop import train
    from sarseg.train.options import options_from

    said = {name: value for name, value in given.items() if value is not None}
    if "steps" in said and "epochs" in said:
        raise UsageError("--steps and --epochs both say how long", None, "give one of them")
    if net_options:
        said["net_options"] = dict(_net_option(text) for text in net_options)
    options = options_from(config, said)
    with progress_bar() as progress:
        folder = train(dataset, out, options, progress, resume=resume, tensorboard=tensorboard)
    spec = read_spec(folder)
    if as_json:
        echo_json({"model": folder, "metrics": spec.metrics})
        return
    click.echo(f"model: {folder}")
    validation = spec.metrics.get("validation")
    if validation and validation["scored_pixels"]:
        click.echo(f"validation: overall accuracy {validation['overall_accuracy']:.3f}, mean IoU {validation['mean_iou']:.3f}")


def _net_option(text: str) -> tuple[str, int | float | bool | str]:
    """`width=16` as a name and a value of the kind that it looks like."""
    name, equals, word = text.partition("=")
    if not equals or not name or not word:
        raise UsageError(f"--net-option {text}", hint="NAME=VALUE, e.g. width=16")
    if word in ("true", "false"):
        return name, word == "true"
    for kind in (int, float):
        try:
            return name, kind(word)
        except ValueError:
            continue
    return name, word
