"""A SNAP to test with: `gpt` as an installed one behaves, with graphs, arguments, messages and exit codes (docs/snap.md)."""

from __future__ import annotations

import sys
from pathlib import Path

_LAUNCHER = """#!/bin/sh
# as the installed launcher does: the shell stays, and Java is its child
"{python}" "{program}" --fake-version {version} "$@"
exit $?
"""


def install_fake(folder: Path, version: str = "13.0.0") -> Path:
    """Install the fake gpt as folder/bin/gpt and return its path; $FAKE_GPT chooses how it behaves (tests/fake_gpt.py)."""
    gpt = folder / "bin" / "gpt"
    gpt.parent.mkdir(parents=True, exist_ok=True)
    program = Path(__file__).resolve().parents[1] / "fake_gpt.py"
    gpt.write_text(_LAUNCHER.format(python=sys.executable, program=program, version=version), encoding="utf-8")
    gpt.chmod(0o755)
    return gpt
