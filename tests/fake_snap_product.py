"""What SNAP would write for a graph: the fake gpt asks for it (tests/fake_gpt.py)."""

from __future__ import annotations

from pathlib import Path

from fake_snap import graph as graphs
from fake_snap import products


def write_product(graph: graphs.Graph, path: Path) -> None:
    """Of a chain from a Sentinel-1 product to Terrain-Correction what SNAP would compute, of any other graph made-up values."""
    ordered = graphs.check_links(graph)
    read = next((Path(node.parameters["file"]) for node in ordered if node.operator == "Read"), Path())
    corrected = any(node.operator == "Terrain-Correction" for node in ordered)
    if corrected and (read.name == "manifest.safe" or read.suffix.lower() in (".safe", ".zip")):
        from fake_snap_chain import compute  # numpy, numba and sarseg take their time

        compute(graph, path)
        return
    made: dict[str, products.Bands] = {}
    for node in ordered:
        made[node.id] = products.initialise(node, made[node.sources[0][1]] if node.sources else None, graph)
    bands = made[graph.write.id]
    products.write_small(path, products.Bands(bands.units, (min(bands.shape[0], 60), min(bands.shape[1], 50))), 0.1)
