"""Several devices of one machine: a process each, started here and ended with this one.

The first process is the caller's own. The others read the dataset again from its folder, say nothing and write nothing.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

from sarseg.errors import InputError, MissingError, SarsegError, UsageError
from sarseg.train.augment import Augmentation
from sarseg.train.options import TrainOptions

_PATIENCE_S = 10.0  # for another process to end, once this one is done or the connection is lost


class OneMachine(ClusterEnvironment):
    """Who is who among the processes of one machine."""

    def __init__(self, rank: int, count: int, port: int) -> None:
        super().__init__()
        self._rank, self._count, self._port = rank, count, port

    @property
    def creates_processes_externally(self) -> bool:
        """Fabric need not start any."""
        return True

    @property
    def main_address(self) -> str:
        """Where the first process listens."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """On which port."""
        return self._port

    @staticmethod
    def detect() -> bool:
        """It is always chosen by hand."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self._count

    def set_world_size(self, size: int) -> None:
        """Known already."""

    def global_rank(self) -> int:
        """0 is the caller's process."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Known already."""

    def local_rank(self) -> int:
        """One machine: the global one."""
        return self._rank

    def node_rank(self) -> int:
        """One machine."""
        return 0


@contextmanager
def others(dataset: Path, options: TrainOptions, out: Path, task: Mapping[str, Any]) -> Iterator[OneMachine]:
    """Start the other processes of a training, and end them on leaving.

    What went wrong in one of them is raised here, where it shows as a lost connection only.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    said = {"dataset": str(dataset.absolute()), "out": str(out.absolute()), "options": asdict(options), "port": port, **task}
    started = [_Other({**said, "rank": rank}) for rank in range(1, options.devices)]
    try:
        try:
            yield OneMachine(0, options.devices, port)
        except SarsegError:
            raise
        except RuntimeError as error:
            for other in started:
                other.raise_fault(error)
            raise
        for other in started:
            other.process.wait(_PATIENCE_S)
    finally:
        for other in started:
            other.end()


class _Other:
    """One of the other processes."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.words = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - a pipe that nobody reads would block it
        command = [sys.executable, "-m", "sarseg.train.ranks"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.words, text=True)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()  # and stays open: its end is the sign that this process is gone

    def raise_fault(self, cause: Exception) -> None:
        """Raise what this process ended with, if it did."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_PATIENCE_S)
        if self.process.returncode:
            self.words.seek(0)
            last = (self.words.read().strip().splitlines() or [f"exit code {self.process.returncode}"])[-1]
            kinds = {kind.exit_code: kind for kind in (UsageError, InputError, MissingError)}
            raise kinds.get(self.process.returncode, MissingError)(f"on another device: {last}") from cause

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.words.close()


def main() -> None:
    """One of the other processes: what to do comes as a line of JSON on the standard input."""
    said = json.loads(sys.stdin.readline())

    def end_with_the_first() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=end_with_the_first, daemon=True).start()
    from sarseg.patches.dataset import open_dataset
    from sarseg.train.checkpoint import fingerprint
    from sarseg.train.loop import train_on

    logging.disable()
    given = said["options"]
    options = TrainOptions(**{**given, "augmentation": Augmentation(**given["augmentation"])})
    dataset = open_dataset(said["dataset"])
    if fingerprint(dataset) != said["fingerprint"]:
        raise UsageError("the dataset is not the one in its folder", said["dataset"], "train on one device, or save it first")
    train_on(OneMachine(said["rank"], options.devices, said["port"]), dataset, Path(said["out"]), options, resume=said["resume"])


if __name__ == "__main__":
    try:
        main()
    except SarsegError as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        raise SystemExit(fault.exit_code) from None
