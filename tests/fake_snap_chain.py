"""The chains of a Sentinel-1 product from Read to Terrain-Correction in plain numpy, node by node, by what is known of SNAP 13 and 14.

Of an SLC only the part that the map needs is computed, and its bursts are put together when they are read: each operator before
Deburst works sample by sample (fake_snap_bursts.py). Its noise floors, its zeros, its grid, its external DEM that is half a pixel
off, its geometry (docs/snap.md, tests/snap_replay.py).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from fake_snap import graph as graphs
from fake_snap_bursts import Pieces, deburst, swaths_of
from pyproj import CRS, Transformer
from snap_replay import NOISE_FLOOR, SnapDem, SnapView, snap_bilinear, snap_view

from sarseg.grid import MapGrid
from sarseg.radar.geometry import ecef_from_geodetic
from sarseg.scene.model import Scene
from sarseg.scene.open import open_scene
from sarseg.scene.orbitfile import read_eof
from sarseg.tiles import Window

_QUANTITIES = {"outputSigmaBand": ("Sigma0", "sigma0"), "outputGammaBand": ("Gamma0", "gamma0"), "outputBetaBand": ("Beta0", "beta0")}


@dataclass(frozen=True, kw_only=True)
class Made:
    """The product behind a node: bands float32, and the map when it lies on one.

    Of an SLC `bands` are the part `window` of the image, `pieces` holds its tables, and `wanted` is the map that is asked for.
    """

    scene: Scene
    window: Window
    bands: dict[str, np.ndarray]
    units: dict[str, str] = field(default_factory=dict)
    grid: MapGrid | None = None
    pieces: Pieces | None = None
    wanted: MapGrid | None = None
    along_m: float = 10.0

    def noise(self, name: str) -> np.ndarray:
        return self.pieces.noise[name] if self.pieces else np.nan_to_num(self.scene.noise[name].power(self.window))

    def amplitude(self, name: str, quantity: str) -> np.ndarray:
        return self.pieces.amplitude[name][quantity] if self.pieces else self.scene.calibration[name].amplitude(quantity, self.window)

    def view(self, dem: SnapDem, grid: MapGrid, version: int) -> SnapView:
        """Lines and pixels count in the window."""
        points = self.scene.geolocation_grid
        one = slice(0, (np.flatnonzero(np.diff(points.line) < 0).tolist() or [len(points.line) - 1])[0] + 1)  # of a whole swath
        points = replace(points, **{name: getattr(points, name)[one] for name in points.__slots__})
        found = snap_view(replace(self.scene, geolocation_grid=points), dem, grid, version=version)
        return replace(found, line=found.line - self.window.row, pixel=found.pixel - self.window.col)


def compute(graph: graphs.Graph, path: Path) -> None:
    """Compute the graph's Write node and write it as BEAM-DIMAP."""
    made: dict[str, Made] = {}
    for node in graphs.check_links(graph):
        made[node.id] = _run(node, [made[refid] for _, refid in node.sources], graph)
    done = made[graph.write.id]
    assert done.grid is not None
    write_dimap(path, done.bands, done.units, done.grid)


def _run(node: graphs.Node, sources: list[Made], graph: graphs.Graph) -> Made:
    given, version = node.parameters, graph.version[0]
    if node.operator == "Read":
        scene = open_scene(Path(given["file"]))
        if scene.pixels == "coverage":
            return _read_slc(scene, Path(given["file"]), graph)
        whole = Window.whole(scene.shape)
        bands = {f"Amplitude_{name}": scene.dn(name, whole).astype(np.float32) for name in scene.polarisations}
        return Made(scene=scene, window=whole, bands=bands)
    source = sources[0]
    if node.operator == "Apply-Orbit-File":
        files = sorted((graph.userdir / "auxdata" / "Orbits").rglob("*.EOF"))
        return replace(source, scene=source.scene.with_orbit(read_eof(files[0], source.scene)))
    if node.operator == "ThermalNoiseRemoval":
        return replace(source, bands=_denoised(source))
    if node.operator == "Calibration":
        return replace(source, bands=_calibrated(source, given, version))
    if node.operator == "BandMaths":
        return _computed(source, node)
    if node.operator == "BandMerge":
        return replace(source, bands={name: band for one in sources for name, band in one.bands.items()})
    if node.operator == "Multilook":
        return _averaged(source, given)
    if node.operator == "Terrain-Flattening":
        return replace(source, bands=_flattened(source, given, version))
    if node.operator == "Terrain-Correction":
        return _corrected(source, given, version)
    if node.operator == "Subset":
        return _subset(source, given)
    return source  # Write, and what does nothing to a new product


# Radar geometry


def _polarisation(name: str) -> str:
    return name.rpartition("_")[2]


def _renamed(name: str, start: str) -> str:
    """Amplitude_IW2_VV -> start_IW2_VV."""
    return f"{start}_{name.partition('_')[2]}"


def _read_slc(scene: Scene, path: Path, graph: graphs.Graph) -> Made:
    """The part of the image of all bursts that the map lies in, with room around it."""
    nodes = {node.operator: node.parameters for node in graphs.check_links(graph) if "region" not in node.parameters}
    looks = tuple(int(nodes.get("Multilook", {}).get(name, 1)) for name in ("nAzLooks", "nRgLooks"))
    whole = Made(scene=scene, window=Window.whole(scene.shape), bands={})
    terrain = nodes["Terrain-Correction"]
    wanted = _snap_grid(scene, terrain)
    wanted = wanted.crop(_region(wanted, nodes["Subset"]["geoRegion"]))
    view = whole.view(_dem(terrain), wanted, 13)
    ends = []
    for values, step, size in zip((view.line, view.pixel), looks, scene.shape, strict=True):
        ends.append((max(0, int(np.nanmin(values) / step) - 20) * step, min(size // step, int(np.nanmax(values) / step) + 20) * step))
    (top, bottom), (left, right) = ends
    pieces = deburst(path.parent, ends[0], ends[1])
    window = Window(row=top, col=left, rows=bottom - top, cols=right - left)
    swaths = {one.swath for one in swaths_of(path.parent)}
    start = "Amplitude" if len(swaths) > 1 else f"Amplitude_{swaths.pop()}"  # Deburst takes the swath out only where it merges several
    bands = {f"{start}_{name}": dn for name, dn in pieces.dn.items()}
    return Made(scene=scene, window=window, bands=bands, pieces=pieces, wanted=wanted, along_m=13.9)


def _averaged(source: Made, given: dict[str, str]) -> Made:
    """Means of so many lines and pixels, zeros too."""
    assert (given["grSquarePixel"], given["outputIntensity"]) == ("false", "false")
    looks = down, across = int(given["nAzLooks"]), int(given["nRgLooks"])
    window = source.window
    assert (window.row % down, window.rows % down, window.col % across, window.cols % across) == (0, 0, 0, 0)
    smaller = Window(row=window.row // down, col=window.col // across, rows=window.rows // down, cols=window.cols // across)
    bands = {}
    for name, band in source.bands.items():
        boxes = band.reshape(smaller.rows, down, smaller.cols, across)
        bands[name] = boxes.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    return replace(source, scene=source.scene.multilooked(looks), window=smaller, bands=bands, along_m=source.along_m * down)


def _denoised(source: Made) -> dict[str, np.ndarray]:
    """Intensity of DN, float32, negative ones 1e-5; 0 stays 0."""
    made = {}
    for name, band in source.bands.items():
        pol = _polarisation(name)
        squared = band.astype(float) ** 2
        power = squared - source.noise(pol)
        made[_renamed(name, "Intensity")] = np.where(squared == 0, 0.0, np.where(power < 0, NOISE_FLOOR, power)).astype(np.float32)
    return made


def _calibrated(source: Made, given: dict[str, str], version: int) -> dict[str, np.ndarray]:
    """Up to 13 an intensity of exactly 1e-5 is doubled until the result is at least 1e-5."""
    made = {}
    for name, band in source.bands.items():
        power = band.astype(float) ** (1 if name.startswith("Intensity") else 2)
        for element, (start, quantity) in _QUANTITIES.items():
            if given.get(element, "true" if start == "Sigma0" else "false").lower() != "true":
                continue
            table = source.amplitude(_polarisation(name), quantity).astype(np.float32).astype(float)
            value = power / np.where(table == 0, 1.0, table) ** 2
            floored = (band == np.float32(NOISE_FLOOR)) & name.startswith("Intensity")
            if version < 14:
                value = np.where(floored, value * 2.0 ** np.ceil(np.log2(NOISE_FLOOR / np.where(floored, value, 1.0))), value)
            made[_renamed(name, start)] = value.astype(np.float32)
    return made


def _computed(source: Made, node: graphs.Node) -> Made:
    bands, units = {}, {}
    for target in node.element.findall("targetBands/targetBand"):
        name, expression = target.findtext("name").strip(), target.findtext("expression")
        bands[name] = np.broadcast_to(evaluate(expression, source.bands), source.window.shape).astype(np.float32)
        units[name] = (target.findtext("unit") or "").strip()
    return replace(source, bands=bands, units=units)


def evaluate(expression: str, bands: dict[str, np.ndarray]) -> np.ndarray:
    """An expression of SNAP's band arithmetic: numbers, bands, + - * /, comparisons, && || !, a ? b : c."""
    text = re.sub(r"!(?!=)", " not ", expression.replace("&&", " and ").replace("||", " or "))
    return _value(ast.parse(_ternary(" ".join(text.split())), mode="eval").body, bands)


def _ternary(text: str) -> str:
    """a ? b : c as Python writes it."""
    innermost = re.compile(r"\(([^()]*)\)")
    parts: list[str] = []
    while found := innermost.search(text):  # brackets first, each by itself
        parts.append(f"({_choice(found[1])})")
        text = f"{text[: found.start()]} _{len(parts) - 1}_ {text[found.end() :]}"
    text = _choice(text)
    while found := re.search(r" _(\d+)_ ", text):
        text = text.replace(found[0], parts[int(found[1])])
    return text


def _choice(text: str) -> str:
    condition, question, rest = text.partition("?")
    if not question:
        return text
    first, _, second = rest.partition(":")
    return f"({first}) if ({condition}) else ({_choice(second)})"


def _value(node: ast.expr, bands: dict[str, np.ndarray]) -> np.ndarray:
    operators = {ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide}
    comparisons = {ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal}
    comparisons |= {ast.Eq: np.equal, ast.NotEq: np.not_equal}
    match node:
        case ast.Constant():
            return np.asarray(node.value)
        case ast.Name():
            return bands[node.id].astype(float)
        case ast.BinOp():
            return operators[type(node.op)](_value(node.left, bands), _value(node.right, bands))
        case ast.UnaryOp(op=ast.Not()):
            return np.logical_not(_value(node.operand, bands))
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, bands)
        case ast.BoolOp():
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return join.reduce([_value(one, bands) for one in node.values])
        case ast.Compare():
            return comparisons[type(node.ops[0])](_value(node.left, bands), _value(node.comparators[0], bands))
        case ast.IfExp():
            return np.where(_value(node.test, bands), _value(node.body, bands), _value(node.orelse, bands))
    raise AssertionError(f"an expression that the stand-in does not know: {ast.dump(node)}")


# Terrain


def _dem(given: dict[str, str]) -> SnapDem:
    assert given["demName"] == "External DEM"
    assert given["externalDEMApplyEGM"] == "false"
    with rasterio.open(given["externalDEMFile"]) as file:
        heights = file.read(1).astype(float)
        heights[heights == float(given["externalDEMNoDataValue"])] = np.nan
        return SnapDem(heights_m=heights, transform=file.transform)


def _flattened(source: Made, given: dict[str, str], version: int) -> dict[str, np.ndarray]:
    """Beta0 over the area of the ground that each pixel holds, seen along the line of sight; 0 where there is hardly any."""
    dem, scene, spacing_m = _dem(given), source.scene, (source.along_m, source.scene.grid.pixel_spacing_m)
    finer = int(np.ceil(dem.transform.a * 6356752.0 * np.pi / 180 / min(spacing_m))) * float(given.get("oversamplingMultiple", 1))
    step = dem.transform.a / finer
    lon, lat = scene.geolocation_grid.lon_deg, scene.geolocation_grid.lat_deg
    (west, north), (east, south) = (dem.transform @ at for at in ((0, 0), dem.heights_m.shape[::-1]))
    west, east = max(west, lon.min() - 0.005), min(east, lon.max() + 0.005)
    south, north = max(south, lat.min() - 0.005), min(north, lat.max() + 0.005)
    rows, cols = int((north - south) / step), int((east - west) / step)
    grid = MapGrid(crs=rasterio.CRS.from_epsg(4326), transform=Affine(step, 0, west, 0, -step, north), shape=(rows, cols))
    view = source.view(dem, grid, version)
    lon, lat = np.meshgrid(*grid.centres())
    point = ecef_from_geodetic(lon, lat, view.height_m)
    area = (np.cross(point[:-1, 1:] - point[1:, :-1], point[:-1, :-1] - point[1:, 1:]) / 2)[..., :, :]
    seen_m2 = np.linalg.norm(area, axis=-1) * np.cos(np.radians(view.local_incidence_deg[1:, :-1]))
    line, pixel = view.line[1:, :-1], view.pixel[1:, :-1]  # the south-west corner
    shape = source.window.shape
    inside = (line >= 0) & (line < shape[0] - 1) & (pixel >= 0) & (pixel < shape[1] - 1)  # False for NaN
    good = inside & (seen_m2 > 0)
    total = np.zeros(shape)
    for down in (0, 1):
        for across in (0, 1):
            r, c = (np.floor(value[good]).astype(int) for value in (line, pixel))
            weight = np.abs(1 - down - (line[good] - r)) * np.abs(1 - across - (pixel[good] - c))
            np.add.at(total, (r + down, c + across), weight * seen_m2[good])
    if source.pieces is None:
        place = np.meshgrid(*(np.arange(side, dtype=float) for side in shape), indexing="ij")
        slope = (scene.grid.slant_range_m(place[0], place[1] + 0.5) - scene.grid.slant_range_m(place[0], place[1] - 0.5)) / spacing_m[1]
        sine = slope
    else:  # slant range
        slope, sine = 1.0, np.sin(np.radians(np.nanmean(view.ellipsoid_incidence_deg)))
    divisor = total / (spacing_m[0] * spacing_m[1] * slope)
    empty = divisor <= 0.05 / np.tan(np.arcsin(sine))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            _renamed(name, "Gamma0"): np.where(empty, 0.0, band / divisor).astype(np.float32)
            for name, band in source.bands.items()
            if name.startswith("Beta0")
        }


def _corrected(source: Made, given: dict[str, str], version: int) -> Made:
    assert given["alignToStandardGrid"] == "true"
    assert given["imgResamplingMethod"] == given["demResamplingMethod"] == "BILINEAR_INTERPOLATION"
    grid = source.wanted or _snap_grid(source.scene, given)
    wanted = [name for name in given.get("sourceBands", "").split(",") if name] or list(source.bands)
    view = source.view(_dem(given), grid, version)
    bands = {name: snap_bilinear(source.bands[name], view.line, view.pixel, version=version) for name in wanted}
    return replace(source, bands=bands, grid=grid)


def _snap_grid(scene: Scene, given: dict[str, str]) -> MapGrid:
    """Centres of pixels at multiples of the spacing from the given origin, around the tie points' box in longitude and latitude."""
    crs = CRS.from_user_input(given["mapProjection"])
    step = float(given["pixelSpacingInDegree" if crs.is_geographic else "pixelSpacingInMeter"])
    points = scene.geolocation_grid
    box = (points.lon_deg.min(), points.lat_deg.min(), points.lon_deg.max(), points.lat_deg.max())
    west, south, east, north = Transformer.from_crs(4326, crs, always_xy=True).transform_bounds(*box, densify_pts=200)
    x0, y0 = float(given["standardGridOriginX"]), float(given["standardGridOriginY"])
    first_x, first_y = np.floor((west - x0) / step) * step + x0, np.ceil((north - y0) / step) * step + y0
    shape = int(np.ceil((first_y - south) / step)), int(np.ceil((east - first_x) / step))
    transform = Affine(step, 0.0, first_x - step / 2, 0.0, -step, first_y + step / 2)
    return MapGrid(crs=rasterio.CRS.from_user_input(crs.to_wkt()), transform=transform, shape=shape)


def _subset(source: Made, given: dict[str, str]) -> Made:
    assert given["copyMetadata"] == "true"
    if given.get("region"):
        col, row, cols, rows = (int(word) for word in given["region"].split(","))
        window = Window(row=row, col=col, rows=rows, cols=cols)
    else:
        window = _region(source.grid, given["geoRegion"])
    window = window.clip(source.grid.shape)
    return replace(source, grid=source.grid.crop(window), bands={name: band[window.slices] for name, band in source.bands.items()})


def _region(grid: MapGrid, text: str) -> Window:
    """The pixels of a map around a polygon in longitude and latitude."""
    numbers = np.array([float(word) for word in re.findall(r"-?[\d.]+(?:[eE][-+]?\d+)?", text)]).reshape(-1, 2)
    x, y = Transformer.from_crs(4326, grid.crs.to_wkt(), always_xy=True).transform(numbers[:, 0], numbers[:, 1])
    row, col = (np.floor(value + 0.5).astype(int) for value in grid.pixel_of(np.array(x), np.array(y)))
    return Window(row=row.min(), col=col.min(), rows=np.ptp(row) + 1, cols=np.ptp(col) + 1).clip(grid.shape)


# BEAM-DIMAP


def write_dimap(path: Path, bands: dict[str, np.ndarray], units: dict[str, str], grid: MapGrid) -> None:
    """A product on a map, as SNAP writes it; the folder is there already."""
    matrix, (rows, cols) = grid.transform, grid.shape
    files = infos = ""
    for at, (name, band) in enumerate(bands.items()):
        (path.with_suffix(".data") / f"{name}.img").write_bytes(band.astype(">f4").tobytes())
        (path.with_suffix(".data") / f"{name}.hdr").write_text(
            f"ENVI\ndescription = {{{name}}}\nsamples = {cols}\nlines = {rows}\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\n"
            f"data type = 4\ninterleave = bsq\nbyte order = 1\nband names = {{ {name} }}\ndata gain values = {{1.0}}\n"
            "data offset values = {0.0}\n"
        )
        unit = units.get(name, "intensity")
        files += f'<Data_File><DATA_FILE_PATH href="{path.stem}.data/{name}.hdr" /><BAND_INDEX>{at}</BAND_INDEX></Data_File>\n'
        infos += (
            f"<Spectral_Band_Info><BAND_INDEX>{at}</BAND_INDEX><BAND_NAME>{name}</BAND_NAME><BAND_RASTER_WIDTH>{cols}</BAND_RASTER_WIDTH>"
            f"<BAND_RASTER_HEIGHT>{rows}</BAND_RASTER_HEIGHT><DATA_TYPE>float32</DATA_TYPE><PHYSICAL_UNIT>{unit}</PHYSICAL_UNIT>"
            "<SCALING_FACTOR>1.0</SCALING_FACTOR><SCALING_OFFSET>0.0</SCALING_OFFSET><LOG10_SCALED>false</LOG10_SCALED>"
            "<NO_DATA_VALUE_USED>true</NO_DATA_VALUE_USED><NO_DATA_VALUE>0.0</NO_DATA_VALUE></Spectral_Band_Info>\n"
        )
    wkt = grid.crs.to_wkt().replace("&", "&amp;")
    path.write_text(
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<Dimap_Document name="{path.name}">\n<Metadata_Id>'
        '<METADATA_FORMAT version="2.13.0">DIMAP</METADATA_FORMAT><METADATA_PROFILE>BEAM-DATAMODEL-V1</METADATA_PROFILE></Metadata_Id>\n'
        f"<Dataset_Id><DATASET_NAME>{path.stem}</DATASET_NAME></Dataset_Id>\n"
        f"<Coordinate_Reference_System><WKT>{wkt}</WKT></Coordinate_Reference_System>\n<Geoposition><IMAGE_TO_MODEL_TRANSFORM>"
        f"{matrix.a},0.0,0.0,{matrix.e},{matrix.c},{matrix.f}</IMAGE_TO_MODEL_TRANSFORM></Geoposition>\n"
        f"<Raster_Dimensions><NCOLS>{cols}</NCOLS><NROWS>{rows}</NROWS><NBANDS>{len(bands)}</NBANDS></Raster_Dimensions>\n"
        f"<Data_Access>{files}</Data_Access>\n<Image_Interpretation>{infos}</Image_Interpretation>\n</Dimap_Document>\n",
        encoding="latin-1",
    )
