"""Files of pixels: reading windows of any raster, heights of a DEM, and the one writer."""
