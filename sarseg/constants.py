"""Physical constants, each with its source."""

from __future__ import annotations

SPEED_OF_LIGHT_M_S = 299_792_458.0  # exact, SI

# WGS 84: NGA.STND.0036, 2014, table 3.1
WGS84_A_M = 6_378_137.0
WGS84_F = 1.0 / 298.257_223_563
METRES_PER_DEGREE = 111_319.5  # of the equator: pi / 180 x WGS84_A_M
WGS84_B_M = WGS84_A_M * (1.0 - WGS84_F)
WGS84_E2 = WGS84_F * (2.0 - WGS84_F)
EARTH_ROTATION_RAD_S = 7.292_115e-5
EARTH_GM_M3_S2 = 3.986_004_418e14
