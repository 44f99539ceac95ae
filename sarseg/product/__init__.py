"""What lies on the map: product folders, and any raster taken as one."""
