"""What the benchmarks share: simulated scenes, CPU time, peak memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cpu_seconds() -> Iterator[list[float]]:
    """CPU seconds (user and system, all threads) of the block, as the list's only element once it is left."""
    taken: list[float] = []
    start = time.process_time()
    yield taken
    taken.append(time.process_time() - start)


def peak_gib() -> float:
    """Peak resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
