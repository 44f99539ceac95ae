"""What lies in a data set folder, and what its dataset.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sarseg.patches.split import PatchOptions
from sarseg.patches.tally import Tally
from sarseg.patches.windows import SPLITS, Splitter

DATASET = "dataset.json"
INDEX = "index.parquet"
LEGEND = "legend.yaml"
CONTACT_SHEET = "contact_sheet.png"
IMAGES, MASKS = "images.zarr", "masks.zarr"
FORMAT = "sarseg patches"


def describe(
    tally: Tally,
    options: PatchOptions,
    sources: Sequence[dict[str, Any]],
    splitters: Sequence[Splitter],
    warnings: Sequence[str],
    kind: Mapping[str, str],
) -> dict[str, Any]:
    """The content of dataset.json; `sources` says what each scene is, `kind` the "store" and the "quantity" of the pixels."""
    return {
        "format": FORMAT,
        "version": 1,
        **kind,
        "size": options.size,
        "patches": len(tally),
        "bands": [band.to_dict() for band in tally.band_infos()],
        "legend": tally.legend.to_dict(),
        "split": {"method": options.split, "seed": options.seed, **tally.split_summary()},
        "sources": [
            {**source, "split": SPLITS[one.whole] if one.whole is not None else one.plan.to_dict()}
            for source, one in zip(sources, splitters, strict=True)
        ],
        "warnings": list(warnings),
    }
