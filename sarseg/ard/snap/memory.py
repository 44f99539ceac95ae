"""How much memory a program may take: what is free on the machine and what the container's limits leave."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_NO_LIMIT = 1 << 60  # version 1 writes a number near 2**63 where there is none


def free_bytes(root: Path = Path("/")) -> int | None:
    """The memory that new programs can take without swapping; None where the system does not say.

    The least of `MemAvailable` and, for the control group of this process and every group above it, of its limit less what it
    uses; file pages that the kernel would drop count as free. Both versions of control groups are read (Linux documentation,
    admin-guide/cgroup-v2 and cgroup-v1/memory).

    Parameters
    ----------
    root : where /proc and /sys are looked up
    """
    found = list(_group_rooms(root))
    available = re.search(r"^MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    if available is not None:
        found.append(int(available[1]) << 10)
    return max(min(found), 0) if found else None


def _group_rooms(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            files = ("memory.max", "memory.current", "inactive_file")
            tops = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            tops = [root / "sys/fs/cgroup/memory", root / f"sys/fs/cgroup/{controllers}"]
        else:
            continue
        for top in tops:
            steps = [part for part in path.split("/") if part not in ("", "..")]
            for count in range(len(steps) + 1):  # a container may see its own group as the top
                yield from _room(top.joinpath(*steps[:count]), *files)


def _room(folder: Path, limit_file: str, usage_file: str, droppable_key: str) -> Iterator[int]:
    limit, usage = _text(folder / limit_file).strip(), _text(folder / usage_file).strip()
    if not (limit.isdigit() and usage.isdigit()) or int(limit) >= _NO_LIMIT:
        return
    droppable = re.search(rf"^{droppable_key} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
    yield int(limit) - int(usage) + (int(droppable[1]) if droppable else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
