"""`sarseg export`: a trained network for other software."""

from __future__ import annotations

from pathlib import Path

import click

from sarseg.cli.common import echo_json
from sarseg.errors import UsageError


@click.command("export")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", "out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="FILE.onnx or FILE.xml.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(model: Path, out: Path, as_json: bool) -> None:
    """Write a trained MODEL as an ONNX or OpenVINO file.

    FILE.onnx runs in onnxruntime and many others, FILE.xml (with FILE.bin beside it) in OpenVINO. Both take any batch, height
    and width of normalised bands, and give logits and probabilities. FILE.json, and the file itself, say which bands these
    are, how to normalise them, and what the classes mean. The file is compared with torch at several sizes before it gets its
    name.

    Example: sarseg export model -o landcover.onnx
    """
    formats = {".onnx": "onnx", ".xml": "openvino"}
    chosen = formats.get(out.suffix.lower())
    if chosen is None:
        raise UsageError(f"no format of exported models ends in '{out.suffix}'", out, "FILE.onnx for ONNX, FILE.xml for OpenVINO")
    from sarseg.nets.export import export_model

    files = export_model(model, out, "onnx" if chosen == "onnx" else "openvino")
    if as_json:
        echo_json({"format": chosen, "files": files})
        return
    for file in files:
        click.echo(f"exported: {file}")
