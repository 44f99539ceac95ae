"""Records of PALSAR and PALSAR-2 files, as data: offset, type, name, unit in the file and factor to the name's unit (docs/palsar.md 3)."""

from __future__ import annotations

from sarseg.raster.ceos import DESCRIPTOR, layout

__all__ = [
    "ATTITUDE",
    "COEFFICIENTS",
    "DESCRIPTOR",
    "LEADER",
    "MAP_PROJECTION",
    "PLATFORM",
    "POINTER",
    "QUALITY",
    "RADIOMETRIC",
    "SUMMARY",
    "TEXT",
    "TRAILER",
    "TYPE_FACILITY",
    "VOLUME",
]

TYPE_FACILITY = (18, 200, 18, 70)

VOLUME = layout(
    "volume descriptor",
    (192, 192, 18, 18),
    """
    16  A12 specification
    32  A12 software
    44  A16 physical_volume
    60  A16 logical_volume
    112 A8  date
    120 A8  time
    160 I4  pointers
    """,
)

POINTER = layout(
    "file pointer",
    (219, 192, 18, 18),
    """
    16  I4  number
    20  A16 file_id
    36  A28 file_class
    64  A4  class_code
    100 I8  records
    108 I8  first_bytes
    116 I8  longest_bytes
    """,
)

TEXT = layout(
    "text record",
    (18, 192, 18, 18),
    """
    16  A40 product
    56  A60 process
    156 A40 orbit
    196 A40 frame_centre
    """,
)

_COUNTS = """
    180 I6  summaries
    186 I6  summary_bytes
    192 I6  map_projections
    198 I6  map_projection_bytes
    204 I6  platforms
    210 I6  platform_bytes
    216 I6  attitudes
    222 I6  attitude_bytes
    228 I6  radiometrics
    234 I6  radiometric_bytes
    240 I6  compensations
    246 I6  compensation_bytes
    252 I6  qualities
    258 I6  quality_bytes
    264 I6  histograms
    276 I6  spectra
    288 I6  elevation_models
    300 I6  radar_updates
    312 I6  annotations
    324 I6  detailed_processings
    336 I6  calibrations
    342 I6  calibration_bytes
    348 I6  control_points
    420 I6x5+14  facilities
    426 I8x5+14  facility_bytes
"""

LEADER = layout("leader file descriptor", (11, 192, 18, 18), _COUNTS)

TRAILER = layout(
    "trailer file descriptor",
    (63, 192, 18, 18),
    _COUNTS
    + """
    490 I6  images
    496 I8  image_bytes
    504 I6  image_pixels
    510 I6  image_lines
    516 I6  image_pixel_bytes
    """,
)

SUMMARY = layout(
    "data set summary",
    (18, 10, 18, 20),
    """
    20   A32 scene_id
    68   A32 centre_time
    116  F16 centre_lat_deg deg
    132  F16 centre_lon_deg deg
    148  F16 centre_heading_deg deg
    164  A16 ellipsoid
    180  F16 semi_major_m km 1e3
    196  F16 semi_minor_m km 1e3
    324  I8  centre_line
    332  I8  centre_pixel
    388  I4  channels
    396  A16 mission
    412  A32 sensor
    444  A8  orbit
    452  F8  platform_lat_deg deg
    460  F8  platform_lon_deg deg
    468  F8  platform_heading_deg deg
    476  F8  clock_angle_deg deg
    484  F8  incidence_deg deg
    500  F16 wavelength_m m
    534  F16x5+16 chirp_hz Hz/s^k
    710  F16 range_sampling_hz MHz 1e6
    726  F16 range_gate_s us 1e-6
    742  F16 pulse_s us 1e-6
    934  F16 prf_hz mHz 1e-3
    1046 A16 facility
    1062 A8  system
    1070 A8  version
    1094 A16 level
    1110 A32 product_type
    1174 F16 looks_azimuth
    1190 F16 looks_range
    1206 F16 look_bandwidth_azimuth_hz Hz
    1222 F16 look_bandwidth_range_hz Hz
    1238 F16 bandwidth_azimuth_hz Hz
    1254 F16 bandwidth_range_hz kHz 1e3
    1350 F16 resolution_range_m m
    1366 F16 resolution_azimuth_m m
    1414 F16x3+16 doppler_along_hz Hz
    1478 F16x3+16 doppler_across_hz Hz/km^k
    1526 A8  time_along_pixel
    1534 A8  time_along_line
    1542 F16x3+16 doppler_rate_along
    1606 F16x3+16 doppler_rate_across
    1686 F16 line_spacing_m m
    1702 F16 pixel_spacing_m m
    1734 F16 doppler_centre_hz Hz
    1750 F16 doppler_slope_hz_km Hz/km
    1802 I4  prf_switch
    1806 I8  prf_switch_line
    1838 F16 off_nadir_deg deg
    1854 I4  beam
    1886 F20x6+20 incidence_rad rad/km^k
    2014 F20x4+20 slant_of_ground_km km/km^k
    """,
)

MAP_PROJECTION = layout(
    "map projection",
    (18, 20, 18, 20),
    """
    28   A32 descriptor
    60   I16 pixels
    76   I16 lines
    92   F16 pixel_spacing_m m
    108  F16 line_spacing_m m
    124  F16 orientation_deg deg
    172  F16 distance_m m
    188  F16 altitude_m m
    204  F16 ground_speed_m_s m/s
    220  F16 heading_deg deg
    236  A32 ellipsoid
    268  F16 semi_major_m m
    284  F16 semi_minor_m m
    300  F16x7+16 datum_shift
    412  A32 projection
    444  A32 utm
    476  A4  utm_zone
    480  F16 false_easting_m m
    496  F16 false_northing_m m
    512  F16 centre_lon_deg deg
    528  F16 centre_lat_deg deg
    576  F16 scale
    592  A32 ups
    624  F16 ups_lon_deg deg
    640  F16 ups_lat_deg deg
    656  F16 ups_scale
    672  A32 other
    704  F16 other_easting_m m
    720  F16 other_northing_m m
    736  F16 other_lon_deg deg
    752  F16 other_lat_deg deg
    768  F16 other_parallel_1_deg deg
    784  F16 other_parallel_2_deg deg
    944  F16x8+16 corner_northing_easting_m km 1e3
    1072 F16x8+16 corner_lat_lon_deg deg
    1200 F16x4+16 corner_height_m m
    1264 F20x8+20 lonlat_of_line_pixel
    1424 F20x8+20 line_pixel_of_lonlat
    """,
)

PLATFORM = layout(
    "platform position",
    (18, 30, 18, 20),
    """
    12  A32 quality
    44  F16x6+16 centre_state
    140 I4  points
    144 I4  year
    148 I4  month
    152 I4  day
    156 I4  day_of_year
    160 F22 first_s s
    182 F22 interval_s s
    204 A64 frame
    290 F16x6+16 error
    386 F22x28+132 x_m m
    408 F22x28+132 y_m m
    430 F22x28+132 z_m m
    452 F22x28+132 vx_m_s m/s
    474 F22x28+132 vy_m_s m/s
    496 F22x28+132 vz_m_s m/s
    4100 A1 leap_second
    """,
)

ATTITUDE = layout(
    "attitude",
    (18, 40, 18, 20),
    """
    12 I4  points
    16 I4x22+120  day_of_year
    20 I8x22+120  time_s ms 1e-3
    28 I4x22+120  pitch_flag
    32 I4x22+120  roll_flag
    36 I4x22+120  yaw_flag
    40 F14x22+120 pitch_deg deg
    54 F14x22+120 roll_deg deg
    68 F14x22+120 yaw_deg deg
    82 I4x22+120  pitch_rate_flag
    86 I4x22+120  roll_rate_flag
    90 I4x22+120  yaw_rate_flag
    94 F14x22+120 pitch_rate_deg_s deg/s
    108 F14x22+120 roll_rate_deg_s deg/s
    122 F14x22+120 yaw_rate_deg_s deg/s
    """,
)

RADIOMETRIC = layout(
    "radiometric data",
    (18, 50, 18, 20),
    """
    12 I4  sequence
    16 I4  sets
    20 F16 factor_db dB
    36 F16x16+16 distortion
    """,
)

QUALITY = layout(
    "data quality summary",
    (18, 60, 18, 20),
    """
    26  A4  channels
    30  F16 islr_db dB
    46  F16 pslr_db dB
    62  F16 azimuth_ambiguity_db dB
    78  F16 range_ambiguity_db dB
    94  F16 noise_db dB
    126 F16 resolution_range_m m
    142 F16 resolution_azimuth_m m
    """,
)

COEFFICIENTS = layout(
    "coordinate coefficients",
    TYPE_FACILITY,
    """
    12   A4 number
    16   F20x10+20 pixel_of_lonlat_10
    216  F20x10+20 line_of_lonlat_10
    416  I4  calibration_flag
    452  I4  prf_switch
    456  I8  prf_switch_line
    464  I8  start_line
    472  I8  lost_lines_raw
    480  I8  lost_lines
    1024 F20x25+20 first_of_pixel_line
    1524 F20x25+20 second_of_pixel_line
    2024 F20 origin_pixel
    2044 F20 origin_line
    2064 F20x25+20 third_of_lat_lon
    2564 F20x25+20 fourth_of_lat_lon
    3064 F20 origin_lat_deg deg
    3084 F20 origin_lon_deg deg
    """,
)
