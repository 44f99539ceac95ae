"""The images' RUN line in a bare venv: the package, not the checkout, must work from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    venv = tmp_path_factory.mktemp("install") / "venv"
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(["bash", ROOT / "docker" / "install.sh", venv], check=True, env=environment, stdout=subprocess.PIPE)
    return venv


def sarseg(venv: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([venv / "bin" / "sarseg", *args], cwd=venv, env=environment, capture_output=True, text=True, check=False)


def test_the_installed_package_works_by_itself(bare_venv: Path) -> None:
    from sarseg import __version__
    from sarseg.cli.main import COMMANDS

    assert sarseg(bare_venv, "--version").stdout == f"sarseg {__version__}\n"
    text = sarseg(bare_venv, "--help")
    assert (text.returncode, text.stderr) == (0, "")
    assert all(name in text.stdout for name, _ in COMMANDS)


def test_the_installed_package_holds_its_pipelines_and_none_of_the_tests(bare_venv: Path) -> None:
    code = "from sarseg.batch.config import *; read_pipeline(packaged_pipeline('demo')); print(packaged_pipeline('demo'))"
    found = subprocess.run([bare_venv / "bin" / "python", "-c", code], cwd=bare_venv, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(bare_venv)
    assert not list(bare_venv.rglob("test_90_install.py"))
    assert list(bare_venv.glob("lib/*/site-packages/sarseg/py.typed"))


def test_the_run_lines_of_the_images_are_the_script() -> None:
    for name in ("Dockerfile", "Dockerfile.cuda"):
        lines = [line for line in (ROOT / "docker" / name).read_text().splitlines() if line.startswith("RUN ")]
        assert len(lines) == 1
        assert lines[0].startswith("RUN bash /opt/src/docker/install.sh /opt/sarseg ")
        assert "USER 1000:1000" in (ROOT / "docker" / name).read_text()
