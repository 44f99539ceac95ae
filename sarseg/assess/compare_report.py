"""A comparison for people and machines: text, JSON, and a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sarseg.assess.compare import BandTally, Comparison
from sarseg.assess.compare_tally import SCATTER_BINS, SCATTER_DB, STEP, Tally, bin_middle, number
from sarseg.errors import UsageError
from sarseg.masks import BIT_TEXT
from sarseg.product.folder import make_parent, write_json
from sarseg.product.open import Product

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GREY, _LINE = "#222222", "#666666", "#dddddd"
_COLOURS = ("#2a6f97", "#c1443c", "#5b8c3a", "#8a5fa8")
_PICTURE_COLOURS = 96
_LEAST_SHARE = 1e-3  # incidence bins with fewer of the pixels are in the JSON only


def describe(found: Comparison) -> dict[str, Any]:
    """For JSON; None stands for a number that does not exist. Every difference is B - A."""
    both = found.pair
    in_a, in_b, in_both = found.valid
    size = both.window.size
    return {
        "a": _product(both.a),
        "b": _product(both.b),
        "difference": "B - A",
        "window": {"row": both.window.row, "col": both.window.col, "rows": both.window.rows, "cols": both.window.cols},
        "offset_in_b_px": list(both.offset) if both.offset is not None else None,
        "resampling": both.resampling,
        "valid_share": {"a": in_a / size, "b": in_b / size, "both": in_both / size},
        "shift": _shift(found),
        "percentile_resolution": f"{(STEP - 1) / 2:.1%} of the value",
        "bands": {band.name: _band(found, band) for band in found.bands},
        "mask": {
            str(one.bit.value): {
                "name": BIT_TEXT[one.bit],
                "a_only": one.a_only,
                "b_only": one.b_only,
                "both": one.both,
                "iou": number(one.iou),
                "decided_by": [name for name, is_it in zip("ab", one.computed, strict=True) if is_it],
            }
            for one in found.masks
        },
        "notes": list(found.notes),
    }


def text(found: Comparison) -> str:
    """For a terminal."""
    both, (in_a, in_b, in_both) = found.pair, found.valid
    size = both.window.size
    lines = [f"{name}  {_words(one)}" for name, one in (("A", both.a), ("B", both.b))]
    lines.append(f"common {both.window.rows} x {both.window.cols} pixels of A; resampling of B: {both.resampling}")
    lines.append(f"with data: A {in_a / size:.2%}, B {in_b / size:.2%}, both {in_both / size:.2%}")
    lines += [_shift_words(found), ""]
    names = found.legend.names if found.legend is not None else ()
    width = max([16, *(len(name) + 2 for name in names)])
    for unit in ("dB", "deg", ""):
        bands = [band for band in found.bands if band.all.unit == unit]
        if bands:
            lines += [*_table(found, bands, width), ""]
    lines += _mask_lines(found, width)
    lines += ["", "differences are B - A", *(f"note: {note}" for note in found.notes)]
    for name, one in (("A", both.a), ("B", both.b)):
        if one.warnings:
            lines.append(f"note: {name} was made with {len(one.warnings)} warning(s): `sarseg info {one.path}`")
    return "\n".join(lines)


def write(found: Comparison, path: Path) -> None:
    """JSON at `path`, and beside it, with the same stem, the picture as PNG."""
    if path.suffix.lower() == ".png":
        raise UsageError("the result is JSON, and the picture comes beside it", path, "a name that ends in .json")
    make_parent(path)
    picture = path.with_suffix(".png")
    part = picture.with_name(f".partial-{os.getpid()}-{picture.name}")
    try:
        draw(found, part)
        write_json(path, describe(found))
        part.replace(picture)
    finally:
        part.unlink(missing_ok=True)


def draw(found: Comparison, path: Path) -> None:
    """A PNG: difference map, histogram, A against B, difference by incidence angle or class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(9.6, 7.6), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"B - A\nA {found.pair.a.path}\nB {found.pair.b.path}", color=_INK, fontsize=8, x=0.02, ha="left")
    axes = figure.subplots(2, 2)
    _draw_map(figure, axes[0, 0], found)
    _draw_histogram(axes[0, 1], found)
    _draw_scatter(axes[1, 0], found)
    _draw_curve(axes[1, 1], found)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:  # a palette: half a megabyte otherwise
        flat = image.convert("RGB").quantize(_PICTURE_COLOURS, dither=Image.Dither.NONE)
    flat.save(path, format="PNG", optimize=True)


def _product(product: Product) -> dict[str, Any]:
    return {
        "path": str(product.path),
        "id": product.id,
        "holds": product.radiometry or product.quantity,
        "bands": list(product.bands),
        "crs": product.grid.crs.to_string() if product.grid.crs is not None else None,
        "shape": list(product.grid.shape),
        "spacing": list(product.grid.spacing),
        "warnings": list(product.warnings),
    }


def _words(product: Product) -> str:
    grid = product.grid
    spacing = " x ".join(f"{one:.6g}" for one in dict.fromkeys(grid.spacing))
    crs = grid.crs.to_string() if grid.crs is not None else "no georeference"
    unit = "" if grid.crs is None else " degrees" if grid.crs.is_geographic else f" {grid.crs.linear_units}"
    holds = product.radiometry or ("values as they stand" if product.quantity == "raw" else "power")
    return f"{product.path}: {holds}, {grid.shape[0]} x {grid.shape[1]} pixels of {spacing}{unit}, {crs}"


def _shift(found: Comparison) -> dict[str, Any] | None:
    shift, metres = found.shift, found.shift_m
    if shift is None:
        return None
    return {
        "right_px": shift.col_px,
        "down_px": shift.row_px,
        "east_m": metres[0] if metres else None,
        "north_m": metres[1] if metres else None,
        "error_px": number(shift.error_px),
        "scatter_of_tiles_px": {"right": number(shift.scatter_px[1]), "down": number(shift.scatter_px[0])},
        "correlation": shift.correlation,
        "tiles": shift.tiles,
    }


def _shift_words(found: Comparison) -> str:
    shift, metres = found.shift, found.shift_m
    if shift is None:
        return "shift: not found"
    where = f" = {metres[0]:+.3f} m east, {metres[1]:+.3f} m north" if metres else ""
    error = f"; error {shift.error_px:.3f} px by {shift.tiles} tiles" if np.isfinite(shift.error_px) else f"; of {shift.tiles} tile(s)"
    return f"shift of B: {shift.col_px:+.3f} px right, {shift.row_px:+.3f} px down{where}{error}, correlation {shift.correlation:.3f}"


def _band(found: Comparison, band: BandTally) -> dict[str, Any]:
    said = {"in_b": band.in_b, **band.all.describe(0)}
    if band.classes is not None and found.legend is not None:
        said["classes"] = {
            name: {"code": code, **band.classes.describe(at)}
            for at, (code, name) in enumerate(zip(found.legend.codes, found.legend.names, strict=True))
        }
    if band.incidence is not None:
        edges = found.incidence_edges_deg
        said["incidence"] = [
            {"from_deg": low, "to_deg": high, **band.incidence.describe(at)}
            for at, (low, high) in enumerate(pairwise(edges))
            if band.incidence.count[at]
        ]
    return said


def _rows(found: Comparison, band: BandTally) -> Iterator[tuple[str, Tally, int]]:
    """Name, tally and group of each row of the table."""
    yield band.name if band.name == band.in_b else f"{band.name}, {band.in_b}", band.all, 0
    if band.classes is not None and found.legend is not None:
        for at, name in enumerate(found.legend.names):
            yield f"  {name}", band.classes, at
    if band.incidence is not None:
        edges = found.incidence_edges_deg
        for at in np.flatnonzero(band.incidence.count >= max(1, _LEAST_SHARE * band.incidence.count.sum())).tolist():
            yield f"  {edges[at]:g}-{edges[at + 1]:g} deg", band.incidence, at


def _table(found: Comparison, bands: list[BandTally], width: int) -> list[str]:
    unit = bands[0].all.unit
    heads = ["bias", "rms", "p1", "p5", "p50", "p95", "p99"] + (["power ratio", "below floor"] if unit == "dB" else [])
    lines = [f"{unit:<{width}} {'pixels':>11} " + " ".join(f"{head:>11}" for head in heads)]
    suffix = bands[0].all.suffix
    for band in bands:
        for name, tally, group in _rows(found, band):
            said = tally.describe(group)
            values = [said[f"{head}{suffix}"] for head in heads[:7]]
            cells = [f"{'-' if value is None else f'{value:.5g}':>11}" for value in values]
            if unit == "dB":
                ratio = said["power_ratio_db"]
                cells += [f"{'-' if ratio is None else f'{ratio:.5g}':>11}", f"{said['pixels_below_floor']:>11}"]
            lines.append(f"{name:<{width}} {said['pixels']:>11} " + " ".join(cells))
    return lines


def _mask_lines(found: Comparison, width: int) -> list[str]:
    lines = [f"{'mask':<{width}} {'A only':>11} {'B only':>11} {'both':>11} {'IoU':>11}"]
    for one in found.masks:
        if not any(one.computed):
            continue
        lacks = [name for name, is_it in zip("AB", one.computed, strict=True) if not is_it]
        agreement = f"not in {lacks[0]}" if lacks else "-" if np.isnan(one.iou) else f"{one.iou:.4f}"
        name = f"{one.bit.value} {(one.bit.name or '').lower().replace('_', ' ')}"
        lines.append(f"{name:<{width}} {one.a_only:>11} {one.b_only:>11} {one.both:>11} {agreement:>11}")
    return lines


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9, color=_GREY, loc="left")
    axes.tick_params(colors=_INK, labelsize=8)
    for name in ("top", "right"):
        axes.spines[name].set_visible(False)


def _draw_map(figure: Figure, axes: Axes, found: Comparison) -> None:
    band = found.bands[0]
    picture = np.ma.masked_invalid(found.picture)
    most = float(np.percentile(np.abs(picture.compressed()), 98)) if picture.count() else 0.0
    most = most or 1e-6
    shown = axes.imshow(picture, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    axes.set_facecolor("#cccccc")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = figure.colorbar(shown, ax=axes, shrink=0.85)
    bar.ax.tick_params(labelsize=8)
    step = f", mean of {found.picture_step} x {found.picture_step} pixels" if found.picture_step > 1 else ""
    axes.set_title(f"{band.name}: difference {_in(band)}{step}", fontsize=9, color=_GREY, loc="left")


def _draw_histogram(axes: Axes, found: Comparison) -> None:
    bands = [band for band in found.bands if band.all.unit == found.bands[0].all.unit]
    ends = [abs(band.all.percentile(0, percent)) for band in bands for percent in (1, 99)]
    reach = max([end for end in ends if np.isfinite(end)], default=0.0) * 1.2 or 1e-6
    edges = np.linspace(-reach, reach, 82)
    middles = bin_middle(np.arange(bands[0].all.bins.shape[1]))
    for band, colour in zip(bands, _COLOURS * len(bands), strict=False):
        count, _ = np.histogram(middles, edges, weights=band.all.bins[0])
        said = band.all.describe(0)
        suffix = band.all.suffix
        label = f"{band.name}: bias {said[f'bias{suffix}']:.3g}, rms {said[f'rms{suffix}']:.3g}"
        axes.stairs(count / max(1, band.all.count[0]) * 100, edges, color=colour, label=label)
    axes.axvline(0, color=_LINE, linewidth=1)
    axes.set_xlabel(f"difference {_in(bands[0])}", fontsize=8, color=_GREY)
    axes.set_ylabel("% of pixels", fontsize=8, color=_GREY)
    axes.set_ylim(top=axes.get_ylim()[1] * (1.05 + 0.08 * len(bands)))
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    _style(axes, "Histogram")


def _draw_scatter(axes: Axes, found: Comparison) -> None:
    from matplotlib.colors import LogNorm

    band = found.bands[0]
    if band.scatter is None or not band.scatter.any():
        axes.set_axis_off()
        return
    low, high = SCATTER_DB
    extent = (low, high, low, high)
    counts = np.ma.masked_equal(band.scatter.T, 0)
    axes.imshow(counts, origin="lower", extent=extent, cmap="Blues", norm=LogNorm(), interpolation="nearest", aspect="equal")
    axes.plot([low, high], [low, high], color=_GREY, linewidth=0.8)
    filled = np.flatnonzero(band.scatter.sum(1) + band.scatter.sum(0))
    step = (high - low) / SCATTER_BINS
    ends = low + step * max(0, filled[0] - 3), low + step * min(SCATTER_BINS, filled[-1] + 4)
    axes.set(xlim=ends, ylim=ends)
    axes.set_xlabel("A, dB", fontsize=8, color=_GREY)
    axes.set_ylabel("B, dB", fontsize=8, color=_GREY)
    _style(axes, f"{band.name}: B against A")


def _draw_curve(axes: Axes, found: Comparison) -> None:
    """Median with 5th and 95th percentile by incidence angle; without angles by class."""
    band = found.bands[0]
    tally = band.incidence or band.classes
    if tally is None or not tally.count.any():
        axes.set_axis_off()
        return
    groups = np.flatnonzero(tally.count >= max(1, _LEAST_SHARE * tally.count.sum()))
    if band.incidence is not None:
        edges = np.array(found.incidence_edges_deg)
        x, title = (edges[groups] + edges[groups + 1]) / 2, "by incidence angle, degrees"
    else:
        assert found.legend is not None
        x, title = np.arange(len(groups)), "by class"
        axes.set_xticks(x, [found.legend.names[at] for at in groups], rotation=30, ha="right", rotation_mode="anchor")
    low, middle, high = ([tally.percentile(int(at), percent) for at in groups] for percent in (5, 50, 95))
    axes.errorbar(
        x, middle, yerr=np.abs(np.array([low, high]) - middle), fmt="o", color=_COLOURS[0], capsize=3, markersize=4, label="p5, p50, p95"
    )
    mean = tally.total[groups] / tally.count[groups]
    axes.plot(x, mean, "x", color=_COLOURS[1], markersize=6, label="mean")
    axes.axhline(0, color=_LINE, linewidth=1)
    axes.set_ylabel(f"difference {_in(band)}", fontsize=8, color=_GREY)
    axes.legend(frameon=False, fontsize=8)
    _style(axes, f"{band.name}: {title}")


def _in(band: BandTally) -> str:
    return {"dB": "in dB", "deg": "in degrees", "": "in the files' unit"}[band.all.unit]
