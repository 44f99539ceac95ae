"""The image with SNAP: what it copies exists, its scripts are whole, and it is sarseg's image with SNAP added. It is not built here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"


def lines(name: str, word: str) -> list[str]:
    return [line for line in (DOCKER / name).read_text(encoding="utf-8").splitlines() if line.startswith(f"{word} ")]


def test_the_image_is_sarsegs_with_snap_added() -> None:
    plain, snap = lines("Dockerfile", "RUN"), lines("Dockerfile.snap", "RUN")
    assert snap[:1] == plain
    assert snap[1:] == ['RUN bash /opt/src/docker/install-snap.sh "$SNAP_VERSION" /opt/sarseg/bin/python']
    for word in ("FROM", "USER", "WORKDIR", "ENTRYPOINT", "CMD"):
        assert lines("Dockerfile", word) == lines("Dockerfile.snap", word)
    assert {line for line in lines("Dockerfile", "COPY") if "docker/" not in line} <= set(lines("Dockerfile.snap", "COPY"))
    assert lines("Dockerfile.snap", "VOLUME") == ["VOLUME /auxdata"]


def test_everything_that_it_copies_exists() -> None:
    sources = [source for line in lines("Dockerfile.snap", "COPY") for source in line.split()[1:-1]]
    assert len(sources) > 8
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_script_is_whole_and_answers_the_installer() -> None:
    script = DOCKER / "install-snap.sh"
    subprocess.run(["bash", "-n", script], check=True)
    answers = (DOCKER / "snap.varfile").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split("=", 1) for line in answers if not line.startswith("#"))
    flags = {name: value for name, value in pairs.items() if name.endswith("$Boolean")}
    assert set(flags.values()) == {"true", "false"}
    home = re.search(r"(/\S+)/bin/gpt --diag", script.read_text(encoding="utf-8"))
    assert home is not None
    assert pairs["sys.installationDir"] == home[1]
    assert f"SNAP_HOME={home[1]} " in lines("Dockerfile.snap", "ENV")[0]
    assert pairs["sys.component.S1TBX$Boolean"] == "true"
