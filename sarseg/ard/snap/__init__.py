"""The SNAP engine: graphs for ESA SNAP's gpt, run and checked."""
