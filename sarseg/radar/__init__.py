"""The physics of a side-looking radar: orbit, geometry, lookup tables, resampling. Arrays and frozen values only, no files."""
