"""CPU time of `sarseg --help`, beside a bare interpreter's: python benchmarks/help_time.py. The limit is 0.3 s."""

from __future__ import annotations

import resource
import subprocess
import sys

LIMIT_S = 0.3
RUNS = 9


def cpu_s(*words: str) -> float:
    """Least user and system time of a few runs of a command."""

    def spent_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    times = []
    for _ in range(RUNS):
        before = spent_s()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        times.append(spent_s() - before)
    return min(times)


def main() -> None:
    """Print the times; exit code 1 over the limit."""
    bare = cpu_s(sys.executable, "-c", "pass")
    help_page = cpu_s(sys.executable, "-m", "sarseg", "--help")
    command_page = cpu_s(sys.executable, "-m", "sarseg", "preprocess", "--help")
    package = cpu_s(sys.executable, "-c", "import sarseg")
    print(f"bare interpreter {bare:.3f} s, import sarseg {package:.3f} s, --help {help_page:.3f} s, preprocess --help {command_page:.3f} s")
    sys.exit(int(max(help_page, command_page) > LIMIT_S))


if __name__ == "__main__":
    main()
