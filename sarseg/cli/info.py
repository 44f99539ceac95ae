"""`sarseg info`: what a file or folder is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sarseg.cli.common import echo_json
from sarseg.errors import InputError

if TYPE_CHECKING:
    from sarseg.grid import MapGrid
    from sarseg.legend import Legend
    from sarseg.product.model import Product
    from sarseg.scene.model import Scene

_LABEL_WIDTH = 18
_NAMED = 4  # entries of an unknown folder that are named
_LABELS = "`sarseg labels` puts them on a product's grid"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt")


@click.command("info")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a list with one JSON object a path.")
def command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Say what a scene, product, dataset, map or model is.

    PATHS are radar scenes (Sentinel-1 GRD and IW SLC: SAFE folder, zip, manifest.safe; PALSAR CEOS: folder, zip, LED- file),
    products on the map (JAXA mosaics, HyP3, ASF and OPERA RTC, SNAP's .dim, PolSARpro folders), folders that sarseg has written,
    or raster files.

    Example: sarseg info S1A_IW_GRDH_1SDV_20210119T031653_20210119T031718_036201_043ED0_8255.zip
    """
    descriptions = [describe(path) for path in paths]
    if as_json:
        echo_json(descriptions)
    else:
        click.echo("\n\n".join("\n".join(_lines(description)) for description in descriptions))


def describe(path: Path) -> dict[str, Any]:
    """What a path is, as plain values; its first key is `kind`. InputError when nothing of ours opens it."""
    from sarseg.labels.files import holds_known
    from sarseg.product.open import is_ready_made
    from sarseg.raster.archive import is_archive
    from sarseg.scene.open import is_scene, open_scene

    if not path.exists():
        raise InputError("no such file or folder", path)
    known = _known_folder(path)
    if known is not None:
        return known
    if is_ready_made(path):
        return _on_map(path)
    if is_scene(path):
        return _scene(open_scene(path))
    if path.is_dir() and not (path / "item.json").is_file():
        raise InputError("the folder is no scene, product, dataset, map or model", path, _leads_on(path))
    if is_archive(path) and holds_known(path):
        raise InputError("holds labels, and is no scene and no product", path, _LABELS)
    return _scene(open_scene(path)) if path.suffix.lower() == ".zip" else _on_map(path)


def _leads_on(folder: Path) -> str:
    """What to give instead of a folder that is nothing by itself."""
    from sarseg.batch.downloads import find_downloads
    from sarseg.labels.files import holds_known

    try:
        found = [one.path for one in find_downloads(folder)]
    except InputError:
        found = []
    if len(found) == 1:
        return f"it holds one download: give {found[0]}"
    if found:
        return f"it holds {len(found)} downloads: give one, such as {found[0]}; `sarseg run` takes them all"
    if holds_known(folder):
        return f"it holds labels: {_LABELS}"
    names = sorted(entry.name for entry in folder.iterdir())
    holds = f"it holds {', '.join(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''}" if names else "it is empty"
    return f"{holds}; a run that was stopped leaves no item.json"


def _known_folder(path: Path) -> dict[str, Any] | None:
    """A model, a dataset or what becomes one, opened and so found to be whole; None for anything else."""
    from sarseg.cli.kinds import kind_of

    kind = kind_of(path)
    if kind == "model":
        from sarseg.nets.modelfile import SPEC, load_model

        load_model(path)
        return {"kind": kind, "path": path, **_summary(path / SPEC)}
    if kind == "dataset":
        from sarseg.patches.dataset import open_dataset
        from sarseg.patches.layout import DATASET

        open_dataset(path)
        return {"kind": kind, "path": path, **_summary(path / DATASET)}
    if kind == "interrupted training":
        done = _summary(path / "checkpoint.json").get("step")
        return {"kind": kind, "path": path, "steps_done": done, "to_go_on": "the same `sarseg train` with --resume"}
    if kind == "images and masks":
        from sarseg.patches.pairs import find_pairs

        pairs, warnings = find_pairs(path / "images", path / "masks")
        first = pairs[0].image
        return {"kind": kind, "path": path, "pairs": len(pairs), "bands": list(first.bands), "dtype": first.dtype, "warnings": warnings}
    if path.is_dir() and any(entry.suffix.lower() in _WEIGHTS for entry in path.iterdir()):
        from sarseg.nets.modelfile import read_spec

        read_spec(path)  # which says what is amiss
    return None


def _scene(scene: Scene) -> dict[str, Any]:
    return {
        "kind": "scene",
        "id": scene.id,
        "path": scene.path,
        "mission": scene.mission,
        "mode": scene.mode,
        "product_type": scene.product_type,
        "polarisations": list(scene.polarisations),
        "start": f"{scene.start_utc}Z",
        "stop": f"{scene.stop_utc}Z",
        "orbit": scene.absolute_orbit,
        "relative_orbit": scene.relative_orbit,
        "direction": scene.orbit_direction,
        "orbit_vectors": f"{len(scene.orbit.t_s)} from {scene.orbit.source}",
        "processor": scene.ipf_version,
        "lines": scene.shape[0],
        "pixels": scene.shape[1],
        "pixel_spacing_m": scene.grid.pixel_spacing_m,
        "images": list(scene.measurements),
        "calibration": list(scene.calibration),
        "noise": [polarisation for polarisation, table in scene.noise.items() if table is not None],
        "noise_removed": scene.noise_removed,
        "look_side": scene.grid.look_side,
        "doppler_hz": [0.0] if scene.grid.doppler is None else list(scene.grid.doppler.coefficients_hz),
        "footprint_lonlat": [list(corner) for corner in scene.footprint_lonlat],
        "warnings": list(scene.warnings),
    }


def _on_map(path: Path) -> dict[str, Any]:
    from sarseg.product.open import open_map, open_product

    try:
        landcover = open_map(path)
    except InputError:
        product = open_product(path)
        description = {"id": product.id, "quantity": product.quantity, "bands": list(product.bands), "time": product.datetime_utc}
        description |= _more(product)
        item, grid, kind = product.item, product.grid, "product" if product.item else "raster"
    else:
        description = {"id": landcover.id, "classes": _classes(landcover.legend)}
        item, grid, kind = landcover.item, landcover.grid, "map"
    warnings = item.get("properties", {}).get("sarseg:warnings", [])
    return {"kind": kind, "path": path, **description, **_grid(grid), "warnings": list(warnings)}


def _more(product: Product) -> dict[str, Any]:
    """What else is known of a product; nothing of a raster with raw bands."""
    said = product.item.get("properties", {})
    keys = {"family": "sarseg:family", "radiometry": "sarseg:quantity", "platform": "platform", "tiles": "sarseg:tiles"}
    found = {name: said[key] for name, key in keys.items() if key in said}
    others = [name for name in product.rasters if name not in product.bands]
    return {**found, **({"further_bands": others} if others else {})}


def _classes(legend: Legend) -> list[str]:
    return [f"{code} {name}" for code, name in zip(legend.codes, legend.names, strict=True)]


def _grid(grid: MapGrid) -> dict[str, Any]:
    return {
        "rows": grid.shape[0],
        "cols": grid.shape[1],
        "crs": grid.crs.to_string() if grid.crs is not None else None,
        "spacing": list(grid.spacing),
        "bounds": list(grid.bounds),
    }


def _summary(path: Path) -> dict[str, Any]:
    """The short entries of a JSON description: numbers, words, and lists of words; the file has the rest."""
    from sarseg.product.folder import read_json

    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError("not a description of a folder", path)
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, (str, int, float, bool)):
            found[key] = value
        elif isinstance(value, list) and all(isinstance(entry, dict) and "name" in entry for entry in value):
            found[key] = [entry["name"] for entry in value]
        elif isinstance(value, dict) and all(isinstance(entry, (str, int, float, bool)) for entry in value.values()):
            found[key] = value
    return found


def _lines(description: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in description.items():
        label = f"{key.replace('_', ' ')}:".ljust(_LABEL_WIDTH)
        if key == "warnings":
            lines += [f"{label} {warning}" for warning in value] or [f"{label} none"]
        else:
            lines.append(f"{label} {_text(value)}")
    return lines


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list):
        nested = any(isinstance(entry, list) for entry in value)
        words = [" ".join(map(_text, entry)) if isinstance(entry, list) else _text(entry) for entry in value]
        return ("; " if nested else ", ").join(words) or "none"
    return str(value)
