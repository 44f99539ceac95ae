"""The line over a folder of downloads: configuration, state, run; and the demo."""
