"""Parts of an annotation that describe the instrument's work: nominal values, the same in every scene of our own."""

from __future__ import annotations

from sarseg.simulate.plan import ScenePlan, near_delay_s
from sarseg.simulate.swaths import SWATHS, Swath
from sarseg.simulate.xmltext import Node, array, double, doubles, flag, listed, single

_BIT_ERRORS = (
    "SyncMarker",
    "DataTakeId",
    "EccNumber",
    "TestMode",
    "RxChannelId",
    "InstrumentConfigId",
    "PacketCount",
    "PriCount",
    "SsbErrorFlag",
    "BaqMode",
    "BaqBlockLength",
    "RangeDecimation",
    "RxGain",
    "TxRampRate",
    "TxPulseStartFrequency",
    "Rank",
    "Pri",
    "Swst",
    "Swl",
    "Polarisation",
    "TempComp",
    "ElevationBeamAddress",
    "AzimuthBeamAddress",
    "SasTestMode",
    "CalType",
    "CalibrationBeamAddress",
    "CalMode",
    "TxPulseNumber",
    "SignalType",
    "SwapFlag",
    "SwathNumber",
    "NumberOfQuads",
)
_GAPS = ("DownlinkInputDataGaps", "DownlinkInputMissingLines", "InstrumentInputDataGaps", "InstrumentInputMissingLines")
_GAP_FLAGS = (
    "downlinkGapsInInputDataSignificantFlag",
    "downlinkMissingLinesSignificantFlag",
    "instrumentGapsInInputDataSignificantFlag",
    "instrumentMissingLinesSignificantFlag",
)
_ANALYSIS = {
    "iBiasUpperBound": 0.011,
    "iBiasLowerBound": -0.011,
    "qBiasUpperBound": 0.011,
    "qBiasLowerBound": -0.011,
    "iqGainUpperBound": 1.001,
    "iqGainLowerBound": 0.999,
    "iqQuadratureDepartureUpperBound": 0.9,
    "iqQuadratureDepartureLowerBound": -0.9,
    "iBiasUsedForCorrection": 0.0,
    "qBiasUsedForCorrection": 0.0,
    "iqGainImbalanceUsedForCorrection": 1.0,
    "iqQuadratureDepartureUsedForCorrection": 0.0,
}


def quality(plan: ScenePlan, statistics: tuple[float, float]) -> Node:
    """qualityInformation: nothing to complain of."""
    gaps: list[Node] = []
    for name, mark in zip(_GAPS, _GAP_FLAGS, strict=True):
        gaps += [(f"num{name}", "0"), (mark, flag(False))]
    link: Node = (
        "downlinkQuality",
        [
            ("iInputDataMean", double(0.0)),
            ("qInputDataMean", double(0.0)),
            ("inputDataMeanOutsideNominalRangeFlag", flag(False)),
            ("iInputDataStdDev", double(9.4)),
            ("qInputDataStdDev", double(9.4)),
            ("inputDataStDevOutsideNominalRangeFlag", flag(False)),
            *gaps,
            ("numSsbErrorInputDataGaps", "0"),
            ("ssbErrorGapsInInputDataSignificantFlag", flag(False)),
            ("numSsbErrorInputMissingLines", "0"),
            ("ssbErrorMissingLinesSignificantFlag", flag(False)),
            ("chirpSourceUsed", "Nominal"),
            ("pgSourceUsed", "Extracted"),
            ("rrfSpectrumUsed", "Extended Tapered"),
            ("replicaReconstructionFailedFlag", flag(False)),
            ("meanPgProductAmplitude", double(0.65)),
            ("stdDevPgProductAmplitude", double(0.065)),
            ("meanPgProductPhase", double(0.125)),
            ("stdDevPgProductPhase", double(0.145)),
            ("pgProductDerivationFailedFlag", flag(False)),
            ("invalidDownlinkParamsFlag", flag(False)),
        ],
    )
    raw: list[Node] = []
    for name, value in (("iBias", 0.0), ("qBias", 0.0), ("iqGainImbalance", 1.0), ("iqQuadratureDeparture", 0.0)):
        raw += [(name, double(value)), (f"{name.replace('Imbalance', '')}SignificanceFlag", flag(False))]
    moments: list[Node] = [
        (name, [("re", single(value)), ("im", single(0.0))])
        for name, value in zip(("outputDataMean", "outputDataStdDev"), statistics, strict=True)
    ]
    picture: list[Node] = [
        ("imageStatistics", moments),
        ("outputDataMeanOutsideNominalRangeFlag", flag(False)),
        ("outputDataStDevOutsideNominalRangeFlag", flag(False)),
    ]
    centroid: list[Node] = [("dcMethod", "Data Analysis"), ("dopplerCentroidUncertainFlag", flag(False))]
    data: Node = (
        "qualityData",
        [
            ("azimuthTime", plan.utc(0.0)),
            link,
            ("rawDataAnalysisQuality", raw),
            ("dopplerCentroidQuality", centroid),
            ("imageQuality", picture),
        ],
    )
    return "qualityInformation", [("productQualityIndex", double(0.0)), listed("qualityDataList", [data])]


def downlink(plan: ScenePlan, swath: Swath) -> Node:
    """downlinkInformation of a sub-swath."""
    number = SWATHS.index(swath)
    start = plan.utc(0.0)
    errors: list[Node] = [(f"numErr{name}", "0") for name in _BIT_ERRORS]
    formats: list[Node] = [
        ("baqBlockLength", "256"),
        ("echoFormat", "FDBAQ"),
        ("noiseFormat", "BAQ 5 Bit"),
        ("calibrationFormat", "Decimation"),
        ("meanBitRate", double(1.52)),
    ]
    decimation: list[Node] = [
        ("decimationFilterBandwidth", double(swath.range_total_hz)),
        ("samplingFrequencyAfterDecimation", double(1.13 * swath.range_total_hz)),
        ("filterLength", "44"),
    ]
    window_s, length_s = near_delay_s(plan) % (1.0 / swath.prf_hz), 4.0e-4
    windows: list[Node] = [
        listed(f"{name}List", [(name, [("azimuthTime", start), ("value", double(value))])])
        for name, value in (("swl", length_s), ("swst", window_s))
    ]
    values: list[Node] = [
        ("pri", double(1.0 / swath.prf_hz)),
        ("rank", str(int(near_delay_s(plan) * swath.prf_hz))),
        ("dataTakeId", str(plan.data_take % 65536)),
        ("eccNumber", "8"),
        ("rxChannelId", "0"),
        ("instrumentConfigId", "6"),
        ("dataFormat", formats),
        ("rangeDecimation", decimation),
        ("rxGain", double(-4.0)),
        ("txPulseLength", double(5.24e-5)),
        ("txPulseStartFrequency", double(-0.5 * swath.range_total_hz)),
        ("txPulseRampRate", double(swath.range_total_hz / 5.24e-5)),
        ("swathNumber", str(10 + number)),
        *windows,
        listed("pointingStatusList", []),
    ]
    parts: list[Node] = [
        ("swath", swath.name),
        ("azimuthTime", start),
        ("firstLineSensingTime", start),
        ("lastLineSensingTime", plan.utc(plan.last_s)),
        ("prf", double(swath.prf_hz)),
        ("bitErrorCount", [*errors, ("numIspHeaderErrors", "0")]),
        ("downlinkValues", values),
    ]
    return "downlinkInformation", parts


def raw_analysis(plan: ScenePlan) -> Node:
    """rawDataAnalysis: no bias, no imbalance."""
    support: list[Node] = [(name, double(value)) for name, value in _ANALYSIS.items()]
    parts: list[Node] = [
        ("azimuthTime", plan.utc(0.0)),
        ("iBias", double(0.0)),
        ("qBias", double(0.0)),
        ("iqQuadratureDeparture", double(0.0)),
        ("iqGainImbalance", double(1.0)),
        ("support", support),
    ]
    return "rawDataAnalysis", parts


def replica(plan: ScenePlan, swath: Swath) -> Node:
    """replicaInformation with the nominal chirp."""
    nominal: list[Node] = [
        ("azimuthTime", plan.utc(0.0)),
        ("chirpSource", "Nominal"),
        ("pgSource", "Extracted"),
        array("amplitudeCoefficients", doubles([1.0, 0.0, 0.0, 0.0]), 4),
        array("phaseCoefficients", doubles([0.0, 0.0, 0.5 * swath.range_total_hz / 5.24e-5, 0.0]), 4),
        ("timeDelay", double(4.45e-7)),
        ("gain", [("re", double(1.0)), ("im", double(0.0))]),
    ]
    return "replicaInformation", [("swath", swath.name), ("referenceReplica", nominal), listed("replicaList", [])]


def doppler(plan: ScenePlan) -> Node:
    """Doppler centroid 0."""
    estimate: list[Node] = [
        ("azimuthTime", plan.utc(0.0)),
        ("t0", double(near_delay_s(plan))),
        array("geometryDcPolynomial", doubles([0.0, 0.0, 0.0]), 3),
        array("dataDcPolynomial", doubles([0.0, 0.0, 0.0]), 3),
        ("dataDcRmsError", double(0.0)),
        ("dataDcRmsErrorAboveThreshold", flag(False)),
        ("fineDceAzimuthStartTime", plan.utc(0.0)),
        ("fineDceAzimuthStopTime", plan.utc(plan.last_s)),
        listed("fineDceList", []),
    ]
    return "dopplerCentroid", [listed("dcEstimateList", [("dcEstimate", estimate)])]
