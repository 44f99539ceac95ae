"""What every test module shares: the shared data, and Hypothesis without a deadline."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# numba compiles in the first example, which would break any deadline
settings.register_profile("sarseg", deadline=None)
settings.load_profile("sarseg")

_NO_SHARED = "no shared data: set SARSEG_SHARED to the folder"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data: `$SARSEG_SHARED`, else `../shared`; a wrong `$SARSEG_SHARED` is a failure."""
    named = os.environ.get("SARSEG_SHARED")
    if named is not None:
        folder = Path(named)
        if not (folder / "data").is_dir():
            pytest.fail(f"SARSEG_SHARED={named} has no folder data/")
        return folder
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(_NO_SHARED)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for want of the shared data."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if _NO_SHARED in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests skipped: {_NO_SHARED}")
