"""A stand-in for esa_snappy: the names, types and refusals of the real module for what sarseg calls, over BEAM-DIMAP files.

$FAKE_SNAPPY: "unconfigured" = as the package is before snappy-conf; "no-snap" = as without SNAP; "memory" = Java's heap ends while reading.
"""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np

HOW = os.environ.get("FAKE_SNAPPY", "")
if HOW == "unconfigured":
    raise ModuleNotFoundError("No module named 'jpyutil'", name="jpyutil")
if HOW == "no-snap":
    raise OSError("Can't find SNAP distribution directory. Either configure variable 'snap_home' in file './snappy.ini'")
if HOW == "spy":
    raise RuntimeError(f"loaded: {[name for name in ('rasterio', 'osgeo', 'sarseg') if name in sys.modules]}")
print("INFO: org.esa.snap.core.gpf.operators.tooladapter.ToolAdapterIO: Initializing external tool adapters")  # noqa: T201 SNAP talks too

TYPES = {"int8": 10, "int16": 11, "int32": 12, "uint8": 20, "uint16": 21, "uint32": 22, "float32": 30, "float64": 31}
MATCHING = (np.float32, np.float64, np.int32)


class JavaArray:
    """A Java array in jpy: a sequence, not a list."""

    def __init__(self, items):
        self._items = tuple(items)

    def __len__(self):
        return len(self._items)

    def __getitem__(self, at):
        return self._items[at]


class JavaClass:
    def __init__(self, name):
        self._name = name

    def getName(self):
        return self._name


class Iterator:
    def __init__(self, items):
        self._items = list(items)

    def hasNext(self):
        return bool(self._items)

    def next(self):
        return self._items.pop(0)


class JavaSet:
    def __init__(self, items):
        self._items = items

    def iterator(self):
        return Iterator(self._items)


class Crs:
    def __init__(self, wkt):
        self._wkt = wkt

    def toWKT(self):
        return self._wkt


class AffineTransform:
    def __init__(self, numbers):
        self._m00, self._m10, self._m01, self._m11, self._m02, self._m12 = numbers

    def getScaleX(self):
        return self._m00

    def getShearX(self):
        return self._m01

    def getTranslateX(self):
        return self._m02

    def getShearY(self):
        return self._m10

    def getScaleY(self):
        return self._m11

    def getTranslateY(self):
        return self._m12


class GeoCoding:
    def __init__(self, kind, wkt="", numbers=(1, 0, 0, 1, 0, 0)):
        self._kind, self._wkt, self.numbers = kind, wkt, numbers

    def getClass(self):
        return JavaClass(f"org.esa.snap.core.datamodel.{self._kind}")

    def getMapCRS(self):
        return Crs(self._wkt)


class Band:
    def __init__(self, info, folder, href):
        self._info, self._file = info, folder / href.replace(".hdr", ".img")

    def _field(self, name):
        found = re.search(f"<{name}>([^<]*)</{name}>", self._info)
        return found[1] if found else None

    def getName(self):
        return self._field("BAND_NAME")

    def getUnit(self):
        return self._field("PHYSICAL_UNIT")

    def getDescription(self):
        return self._field("BAND_DESCRIPTION")

    def getRasterWidth(self):
        return int(self._field("BAND_RASTER_WIDTH"))

    def getRasterHeight(self):
        return int(self._field("BAND_RASTER_HEIGHT"))

    def getDataType(self):
        return TYPES[self._field("DATA_TYPE")]

    def isNoDataValueUsed(self):
        return self._field("NO_DATA_VALUE_USED") == "true"

    def getGeophysicalNoDataValue(self):
        return float(self._field("NO_DATA_VALUE")) * float(self._field("SCALING_FACTOR") or 1) + float(self._field("SCALING_OFFSET") or 0)

    def readPixels(self, x, y, w, h, pixels):
        if not all(type(number) is int for number in (x, y, w, h)) or getattr(pixels, "dtype", None) not in MATCHING or pixels.ndim != 1:
            raise RuntimeError("no matching Java method overloads found")
        if HOW == "memory":
            raise RuntimeError("java.lang.OutOfMemoryError: Java heap space")
        stored = np.memmap(
            self._file, np.dtype(self._field("DATA_TYPE")).newbyteorder(">"), "r", shape=(self.getRasterHeight(), self.getRasterWidth())
        )
        if pixels.size != w * h:
            raise RuntimeError("java.lang.ArrayIndexOutOfBoundsException")
        scale, offset = float(self._field("SCALING_FACTOR") or 1), float(self._field("SCALING_OFFSET") or 0)
        pixels[:] = (stored[y : y + h, x : x + w] * scale + offset).ravel()
        return pixels


class Product:
    def __init__(self, path):
        text = path.read_text(encoding="latin-1")
        files = re.findall(r'DATA_FILE_PATH href="([^"]+)"', text)
        infos = re.findall(r"<Spectral_Band_Info>.*?</Spectral_Band_Info>", text, re.DOTALL)
        bands = [Band(info, path.parent, href) for info, href in zip(infos, files, strict=True)]
        self._bands = {band.getName(): band for band in bands}
        self._text, self._name = text, path.stem

    @staticmethod
    def findImageToModelTransform(coding):
        return AffineTransform(coding.numbers)

    def getName(self):
        return self._name

    def getStartTime(self):
        return re.search(r"<PRODUCT_SCENE_RASTER_START_TIME>(.*?)<", self._text)[1]

    def getEndTime(self):
        return None

    def getBandNames(self):
        return JavaArray(self._bands)

    def getBand(self, name):
        return self._bands.get(name)

    def getSceneGeoCoding(self):
        numbers = re.search(r"<IMAGE_TO_MODEL_TRANSFORM>(.*?)<", self._text)
        if numbers is None:
            return GeoCoding("TiePointGeoCoding")
        wkt = re.search(r"<WKT>(.*?)</WKT>", self._text, re.DOTALL)[1]
        wkt = wkt.replace("&quot;", '"').strip()
        return GeoCoding("CrsGeoCoding", wkt, [float(one) for one in numbers[1].split(",")])

    def dispose(self):
        self._bands = {}


class ProductIO:
    @staticmethod
    def readProduct(path):
        if type(path) is not str:
            raise RuntimeError("no matching Java method overloads found")
        if not path.endswith(".dim"):
            return None
        return Product(Path(path))


class Parameter:
    def __init__(self, name, known):
        self._name, self._known = name, known

    def getName(self):
        return self._name

    def getAlias(self):
        return None

    def getDataType(self):
        java = {"int": "int", "boolean": "boolean", "double": "double", "string": "java.lang.String", "string[]": "[Ljava.lang.String;"}
        return JavaClass(java.get(self._known["type"], "java.io.File"))

    def getDefaultValue(self):
        return self._known.get("default")

    def getInterval(self):
        return self._known.get("interval")

    def getValueSet(self):
        return JavaArray(self._known.get("values", ()))

    def isNotNull(self):
        return self._known.get("mandatory", False)


class Source:
    def __init__(self, name):
        self._name = name

    def getName(self):
        return "sourceProduct"

    def getAlias(self):
        return self._name


class OperatorSpi:
    def __init__(self, name, known):
        self._name, self._known = name, known

    def getOperatorDescriptor(self):
        return self

    def getAlias(self):
        return self._name

    def getName(self):
        return f"eu.esa.sar.{self._name}Op"

    def getSourceProductDescriptors(self):
        return JavaArray(map(Source, self._known["sources"]))

    def getParameterDescriptors(self):
        return JavaArray(Parameter(*one) for one in self._known["parameters"].items())


class GPF:
    _loaded = False

    @classmethod
    def getDefaultInstance(cls):
        return cls

    @classmethod
    def getOperatorSpiRegistry(cls):
        return cls

    @classmethod
    def loadOperatorSpis(cls):
        cls._loaded = True

    @classmethod
    def getOperatorSpis(cls):
        file = Path(__file__).resolve().parents[2] / "operators.json"
        known = json.loads(file.read_text(encoding="utf-8")) if cls._loaded else {}
        return JavaSet([OperatorSpi(*one) for one in known.items()])
