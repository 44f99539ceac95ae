"""The other side of `bridge`: run as a script by a Python that has esa_snappy and numpy; nothing of sarseg is imported here.

    python bridge_child.py read FOLDER PRODUCT [BAND...]    header.json and one <number>.npy a band appear in FOLDER
    python bridge_child.py describe FOLDER [OPERATOR...]    operators.json appears in FOLDER

Exit codes: 0 done, 10 no esa_snappy (or numpy), 11 esa_snappy does not start, 12 the product or operator is not there, 1 anything else;
the reason is the last line on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

NOT_INSTALLED, NOT_CONFIGURED, NOT_THERE = 10, 11, 12
_STRIP_VALUES = 1 << 22


def main(words: list[str]) -> int:
    """Do what the words say and return the exit code."""
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != os.path.dirname(os.path.abspath(__file__))]  # noqa: PTH100, PTH120
    sys.path.append(os.path.expanduser("~/.snap/snap-python"))  # noqa: PTH111 where SNAP 10 and 11 put it
    try:
        import_module("numpy")
        snappy = import_module("esa_snappy")
    except ModuleNotFoundError as error:
        installed = error.name not in ("esa_snappy", "numpy")
        return _say(str(error), NOT_CONFIGURED if installed else NOT_INSTALLED)
    except Exception as error:  # noqa: BLE001 whatever the start of a Java machine throws
        return _say(f"{type(error).__name__}: {error}", NOT_CONFIGURED)
    task, folder, rest = words[0], words[1], words[2:]
    if task == "read":
        return _read(snappy, folder, rest[0], rest[1:])
    return _describe(snappy, folder, rest)


def _say(reason: str, code: int) -> int:
    sys.stderr.write(f"\n{' '.join(reason.split())}\n")
    return code


def _read(snappy: Any, folder: str, path: str, wanted: list[str]) -> int:
    try:
        product = snappy.ProductIO.readProduct(path)
    except Exception as error:  # noqa: BLE001 jpy turns Java's exceptions into RuntimeError, and not only those
        return _say(str(error), NOT_THERE)
    if product is None:
        return _say(f"SNAP has no reader for {path}", NOT_THERE)
    names = [str(name) for name in product.getBandNames()]
    missing = [name for name in wanted if name not in names]
    if missing:
        return _say(f"no band '{missing[0]}': bands are {', '.join(names)}", NOT_THERE)
    bands = [_save_band(product.getBand(name), os.path.join(folder, f"{at}.npy")) for at, name in enumerate(wanted or names)]  # noqa: PTH118
    header = {
        "name": str(product.getName()),
        "start_utc": _text(product.getStartTime()),
        "stop_utc": _text(product.getEndTime()),
        "bands": bands,
        **_georeference(snappy, product),
    }
    _save(folder, "header.json", header)
    product.dispose()
    return 0


def _save_band(band: Any, path: str) -> dict[str, Any]:
    """Write the band's values, scaled as SNAP scales them, as float32 (float64 of 32-bit integers and doubles)."""
    import numpy as np

    rows, cols = int(band.getRasterHeight()), int(band.getRasterWidth())
    kind = np.float64 if str(snap_type(band.getDataType())) in ("int32", "uint32", "float64") else np.float32
    values = np.lib.format.open_memmap(path, "w+", kind, (rows, cols))
    step = max(1, _STRIP_VALUES // cols)
    for row in range(0, rows, step):
        count = min(step, rows - row)
        strip = np.zeros(count * cols, kind)
        values[row : row + count] = np.asarray(band.readPixels(0, row, cols, count, strip)).reshape(count, cols)
    values.flush()
    used = bool(band.isNoDataValueUsed())
    return {
        "name": str(band.getName()),
        "unit": _text(band.getUnit()),
        "description": _text(band.getDescription()),
        "nodata": float(band.getGeophysicalNoDataValue()) if used else None,
    }


def snap_type(number: int) -> str:
    """Name of a type of org.esa.snap.core.datamodel.ProductData."""
    names = {10: "int8", 11: "int16", 12: "int32", 20: "uint8", 21: "uint16", 22: "uint32", 30: "float32", 31: "float64"}
    return names.get(int(number), "float64")


def _georeference(snappy: Any, product: Any) -> dict[str, Any]:
    """CRS and affine transform (a, b, c, d, e, f: x = a col + b row + c) of a product on a map."""
    coding = product.getSceneGeoCoding()
    if coding is None or not str(coding.getClass().getName()).endswith("CrsGeoCoding"):
        return {"crs": None, "transform": None}
    affine = snappy.Product.findImageToModelTransform(coding)
    a, b, c = affine.getScaleX(), affine.getShearX(), affine.getTranslateX()
    d, e, f = affine.getShearY(), affine.getScaleY(), affine.getTranslateY()
    return {"crs": str(coding.getMapCRS().toWKT()), "transform": [float(one) for one in (a, b, c, d, e, f)]}


def _describe(snappy: Any, folder: str, wanted: list[str]) -> int:
    registry = snappy.GPF.getDefaultInstance().getOperatorSpiRegistry()
    registry.loadOperatorSpis()
    found = {}
    spis = registry.getOperatorSpis().iterator()
    while spis.hasNext():
        descriptor = spis.next().getOperatorDescriptor()
        found[str(descriptor.getAlias())] = descriptor
    missing = [name for name in wanted if name not in found]
    if missing:
        return _say(f"no operator '{missing[0]}'", NOT_THERE)
    told = {name: _operator(found[name]) for name in sorted(wanted or found)}
    _save(folder, "operators.json", told)
    return 0


def _operator(descriptor: Any) -> dict[str, Any]:
    return {
        "java_class": str(descriptor.getName()),
        "sources": [_text(one.getAlias()) or str(one.getName()) for one in descriptor.getSourceProductDescriptors()],
        "parameters": [_parameter(one) for one in descriptor.getParameterDescriptors()],
    }


def _parameter(one: Any) -> dict[str, Any]:
    return {
        "name": _text(one.getAlias()) or str(one.getName()),
        "java_type": str(one.getDataType().getName()),
        "default": _text(one.getDefaultValue()) if one.getDefaultValue() is not None else None,
        "interval": _text(one.getInterval()),
        "values": [str(value) for value in one.getValueSet()],
        "mandatory": bool(one.isNotNull()),
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _save(folder: str, name: str, content: Any) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:  # noqa: PTH118, PTH123 an old Python may run this
        json.dump(content, file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
