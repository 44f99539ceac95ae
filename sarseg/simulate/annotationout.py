"""Product annotation of a scene of our own, in the element order of ESA's schema (IPF 3.40)."""

from __future__ import annotations

import math

import numpy as np

from sarseg.constants import SPEED_OF_LIGHT_M_S, WGS84_A_M, WGS84_B_M
from sarseg.simulate.ellipsoid import geodetic
from sarseg.simulate.housekeeping import doppler, downlink, quality, raw_analysis, replica
from sarseg.simulate.plan import PIXEL_SPACING_M, ScenePlan, near_delay_s
from sarseg.simulate.swaths import Swath, columns
from sarseg.simulate.tablesout import header
from sarseg.simulate.xmltext import Node, array, document, double, doubles, flag, listed, single

_GRID_LINES, _GRID_PIXELS = 10, 21
_RADAR_HZ = 5.405000454334350e9
_SAMPLING_HZ = 6.434523812571428e7


def annotation_file(plan: ScenePlan, polarisation: str, statistics: tuple[float, float]) -> str:
    """The annotation of one polarisation; `statistics` are mean and standard deviation of DN."""
    swaths = [swath for swath, _, _ in columns(plan.incidence_deg)]
    bursts: list[Node] = [("linesPerBurst", "0"), ("samplesPerBurst", "0"), ("burstList", "", {"count": "0"})]
    parts: list[Node] = [
        header(plan, polarisation),
        quality(plan, statistics),
        _general(plan, swaths),
        _image(plan, swaths, statistics),
        doppler(plan),
        _pattern(plan, swaths),
        ("swathTiming", bursts),
        _geolocation(plan),
        _conversion(plan),
        _merging(plan),
    ]
    return document(("product", parts))


def _general(plan: ScenePlan, swaths: list[Swath]) -> Node:
    vectors: list[Node] = []
    for t_s, position, velocity in zip(plan.vector_s, plan.position_m, plan.velocity_m_s, strict=True):
        parts: list[Node] = [
            (name, [(axis, double(value)) for axis, value in zip("xyz", values, strict=True)])
            for name, values in (("position", position), ("velocity", velocity))
        ]
        vectors.append(("orbit", [("time", plan.utc(float(t_s))), ("frame", "Earth Fixed"), *parts]))
    heights: list[Node] = [
        ("terrainHeight", [("azimuthTime", plan.utc(float(t_s))), ("value", double(height))])
        for t_s, height in zip(plan.geometry.record_s, plan.terrain_m, strict=True)
    ]
    rate: Node = (
        "azimuthFmRate",
        [
            ("azimuthTime", plan.utc(0.0)),
            ("t0", double(near_delay_s(plan))),
            array("azimuthFmRatePolynomial", doubles([-2338.24, 438438.4, -73963500.0]), 3),
        ],
    )
    return (
        "generalAnnotation",
        [
            (
                "productInformation",
                [
                    ("pass", plan.direction.capitalize()),
                    ("timelinessCategory", "Fast-24h"),
                    ("platformHeading", double(_heading_deg(plan))),
                    ("projection", "Ground Range"),
                    ("rangeSamplingRate", double(_SAMPLING_HZ)),
                    ("radarFrequency", double(_RADAR_HZ)),
                    ("azimuthSteeringRate", double(1.590368784)),
                ],
            ),
            listed("downlinkInformationList", [downlink(plan, swath) for swath in swaths]),
            listed("orbitList", vectors),
            listed("attitudeList", []),
            listed("rawDataAnalysisList", [raw_analysis(plan)]),
            listed("replicaInformationList", [replica(plan, swath) for swath in swaths]),
            listed("noiseList", []),
            listed("terrainHeightList", heights),
            listed("azimuthFmRateList", [rate]),
        ],
    )


def _heading_deg(plan: ScenePlan) -> float:
    """Direction of flight over the ground, degrees from north."""
    middle_s = np.array([0.5 * plan.last_s, 0.5 * plan.last_s + 0.1])
    position, _ = plan.geometry.track.state(middle_s)
    lon_deg, lat_deg, _ = geodetic(position)
    east = (lon_deg[1] - lon_deg[0]) * math.cos(math.radians(float(lat_deg[0])))
    return math.degrees(math.atan2(east, lat_deg[1] - lat_deg[0]))


def _image(plan: ScenePlan, swaths: list[Swath], statistics: tuple[float, float]) -> Node:
    geometry = plan.geometry
    middle_deg = float(plan.incidence_deg[geometry.pixels // 2])
    moments: list[Node] = [
        (name, [("re", single(value)), ("im", single(0.0))])
        for name, value in zip(("outputDataMean", "outputDataStdDev"), statistics, strict=True)
    ]
    information: list[Node] = [
        ("productFirstLineUtcTime", plan.utc(0.0)),
        ("productLastLineUtcTime", plan.utc(plan.last_s)),
        ("ascendingNodeTime", str(plan.node_utc)),
        ("anchorTime", plan.utc(0.0)),
        ("productComposition", "Individual"),
        ("sliceNumber", "0"),
        listed("sliceList", []),
        ("slantRangeTime", double(near_delay_s(plan))),
        ("pixelValue", "Detected"),
        ("outputPixels", "16 bit Unsigned Integer"),
        ("rangePixelSpacing", single(PIXEL_SPACING_M)),
        ("azimuthPixelSpacing", single(PIXEL_SPACING_M)),
        ("azimuthTimeInterval", double(geometry.line_interval_s)),
        ("azimuthFrequency", double(4.864863102995529e2)),
        ("numberOfSamples", str(geometry.pixels)),
        ("numberOfLines", str(geometry.lines)),
        ("zeroDopMinusAcqTime", double(0.0)),
        ("incidenceAngleMidSwath", double(middle_deg)),
        ("imageStatistics", moments),
    ]
    return "imageAnnotation", [("imageInformation", information), _processing(plan, swaths)]


def _processing(plan: ScenePlan, swaths: list[Swath]) -> Node:
    done = ("antennaElevationPattern", "antennaAzimuthPattern", "antennaAzimuthElementPattern")
    dimensions: list[Node] = [
        (
            "inputDimensions",
            [
                ("azimuthTime", plan.utc(0.0)),
                ("swath", swath.name),
                ("numberOfInputSamples", str(plan.geometry.pixels)),
                ("numberOfInputLines", str(plan.geometry.lines)),
            ],
        )
        for swath in swaths
    ]
    return (
        "processingInformation",
        [
            ("rawDataAnalysisUsed", flag(True)),
            ("orbitDataFileUsed", flag(True)),
            ("attitudeDataFileUsed", flag(False)),
            ("rxVariationCorrectionApplied", flag(True)),
            *((f"{name}Applied", flag(True)) for name in done),
            ("dcMethod", "Data Analysis"),
            ("dcInputData", "Range Compressed"),
            ("rangeSpreadingLossCompensationApplied", flag(True)),
            ("srgrConversionApplied", flag(True)),
            ("detectionPerformed", flag(True)),
            ("thermalNoiseCorrectionPerformed", flag(False)),
            ("rfiMitigationPerformed", "Never"),
            ("rfiMitigationDomain", "TimeAndFrequency"),
            ("chirpSource", "Nominal"),
            ("pgSource", "Extracted"),
            ("rrfSpectrum", "Extended Tapered"),
            ("applicationLutId", "IW_Default"),
            listed("swathProcParamsList", [_bandwidths(swath) for swath in swaths]),
            listed("inputDimensionsList", dimensions),
            ("referenceRange", double(800_000.0)),
            ("ellipsoidName", "WGS84"),
            ("ellipsoidSemiMajorAxis", double(WGS84_A_M)),
            ("ellipsoidSemiMinorAxis", double(WGS84_B_M)),
            ("bistaticDelayCorrectionApplied", flag(True)),
            ("topsFilterConvention", "Only Echo Lines"),
            ("orbitSource", "Auxiliary"),
            ("attitudeSource", "Downlink"),
        ],
    )


def _bandwidths(swath: Swath) -> Node:
    def processing(name: str, hamming: float, total_hz: float, look: tuple[float, int, float]) -> Node:
        look_hz, looks, overlap_hz = look
        return (
            name,
            [
                ("windowType", "Hamming"),
                ("windowCoefficient", double(hamming)),
                ("totalBandwidth", double(total_hz)),
                ("processingBandwidth", double(total_hz)),
                ("lookBandwidth", double(look_hz)),
                ("numberOfLooks", str(looks)),
                ("lookOverlap", double(overlap_hz)),
            ],
        )

    return (
        "swathProcParams",
        [
            ("swath", swath.name),
            processing("rangeProcessing", swath.range_hamming, swath.range_total_hz, (swath.range_look_hz, 5, swath.range_overlap_hz)),
            processing("azimuthProcessing", swath.azimuth_hamming, swath.azimuth_hz, (swath.azimuth_hz, 1, 0.0)),
            ("processorScalingFactor", single(8.5e11)),
        ],
    )


def _pattern(plan: ScenePlan, swaths: list[Swath]) -> Node:
    """A flat antenna pattern at the ends of each sub-swath: its correction is already in the pixels."""
    patterns: list[Node] = []
    delay_s = near_delay_s(plan)
    for swath in swaths:
        values = (
            ("slantRangeTime", [delay_s, delay_s]),
            ("elevationAngle", [0.88 * swath.near_deg, 0.88 * swath.far_deg]),
            ("elevationPattern", [1.0, 0.0, 1.0, 0.0]),
            ("incidenceAngle", [swath.near_deg, swath.far_deg]),
        )
        lists: list[Node] = [array(name, doubles(one), 2) for name, one in values]
        patterns.append(
            (
                "antennaPattern",
                [
                    ("swath", swath.name),
                    ("azimuthTime", plan.utc(0.0)),
                    *lists,
                    ("terrainHeight", double(float(plan.terrain_m.mean()))),
                    ("roll", double(29.9)),
                ],
            )
        )
    return "antennaPattern", [listed("antennaPatternList", patterns)]


def grid_nodes(plan: ScenePlan) -> tuple[list[int], list[int]]:
    """Lines and pixels of the geolocation grid: equal steps, the last one on the last line and pixel."""
    counts = (plan.geometry.lines, _GRID_LINES), (plan.geometry.pixels, _GRID_PIXELS)
    axes = []
    for size, count in counts:
        step = max(1, -(-size // (count - 1)))
        axes.append([*range(0, size - 1, step), size - 1])
    return axes[0], axes[1]


def _geolocation(plan: ScenePlan) -> Node:
    """Points on the records' mean terrain height; azimuthTime is the zero-Doppler time, the incidence is geocentric."""
    geometry = plan.geometry
    lines, pixels = grid_nodes(plan)
    line, pixel = (values.ravel().astype(np.float64) for values in np.meshgrid(lines, pixels, indexing="ij"))
    slant_m = geometry.slant_range_m(line, pixel)
    t_s = np.round(geometry.time_s(line, slant_m), 6)
    height_m = np.interp(line * geometry.line_interval_s, geometry.record_s, plan.terrain_m)
    points = geometry.ground_point(line, pixel, height_m)
    lon_deg, lat_deg, _ = geodetic(points)
    position, _ = geometry.track.state(t_s)
    sight = points - position
    incidence = _angle_deg(-sight, points)
    elevation = _angle_deg(sight, -position)
    items: list[Node] = [
        (
            "geolocationGridPoint",
            [
                ("azimuthTime", plan.utc(float(t_s[i]))),
                ("slantRangeTime", double(2.0 * slant_m[i] / SPEED_OF_LIGHT_M_S)),
                ("line", str(int(line[i]))),
                ("pixel", str(int(pixel[i]))),
                ("latitude", double(lat_deg[i])),
                ("longitude", double(lon_deg[i])),
                ("height", double(height_m[i])),
                ("incidenceAngle", double(incidence[i])),
                ("elevationAngle", double(elevation[i])),
            ],
        )
        for i in range(len(line))
    ]
    return "geolocationGrid", [listed("geolocationGridPointList", items)]


def _angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    cosine = np.sum(a * b, axis=-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return np.asarray(np.degrees(np.arccos(cosine)))


def _conversion(plan: ScenePlan) -> Node:
    items: list[Node] = [
        (
            "coordinateConversion",
            [
                ("azimuthTime", plan.utc(float(t_s))),
                ("slantRangeTime", double(near_delay_s(plan))),
                ("sr0", double(forward[0])),
                array("srgrCoefficients", doubles(inverse), len(inverse)),
                ("gr0", double(0.0)),
                array("grsrCoefficients", doubles(forward), len(forward)),
            ],
        )
        for t_s, forward, inverse in zip(plan.geometry.record_s, plan.ground_to_slant, plan.slant_to_ground, strict=True)
    ]
    return "coordinateConversion", [listed("coordinateConversionList", items)]


def _merging(plan: ScenePlan) -> Node:
    items: list[Node] = []
    for swath, first, last in columns(plan.incidence_deg):
        bounds: Node = (
            "swathBounds",
            [
                ("azimuthTime", plan.utc(0.0)),
                ("firstAzimuthLine", "0"),
                ("firstRangeSample", str(first)),
                ("lastAzimuthLine", str(plan.geometry.lines - 1)),
                ("lastRangeSample", str(last)),
            ],
        )
        items.append(("swathMerge", [("swath", swath.name), listed("swathBoundsList", [bounds])]))
    return "swathMerging", [listed("swathMergeList", items)]
