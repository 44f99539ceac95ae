"""The number format to compute in: what the hardware does well, found by asking it.

Weights, optimiser and losses stay in float32; half precision is for convolutions and the like (Micikevicius et al. 2018).
On a processor without units for bfloat16 it is several times slower than float32, so it is never the default there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from sarseg.errors import UsageError
from sarseg.train.options import PrecisionName, TrainOptions

Format = Literal["float32", "bfloat16", "float16"]
_FABRIC: dict[Format, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


@dataclass(frozen=True, slots=True)
class Precision:
    """A number format and why it was taken."""

    format: Format
    reason: str

    @property
    def fabric(self) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
        """Its name in Lightning Fabric."""
        return _FABRIC[self.format]


def choose_precision(device: torch.device, wanted: PrecisionName) -> Precision:
    """The precision that was asked for, or the fastest that this device computes well for "auto".

    UsageError for float16 on a CPU, whose gradients would need a scaler for nothing gained.
    """
    if wanted != "auto":
        if wanted == "float16" and device.type == "cpu":
            raise UsageError("float16 does not train on a CPU", hint="bfloat16, float32 or auto")
        return Precision(wanted, "as asked for")
    return _of_cuda(device) if device.type == "cuda" else _of_cpu()


def cpu_flags() -> list[str]:
    """What this processor has for matrices, by the names torch knows: avx2, avx512, avx512_vnni, avx512_bf16, amx."""
    asked = {
        "avx2": "_is_avx2_supported",
        "avx512": "_is_avx512_supported",
        "avx512_vnni": "_is_vnni_supported",
        "avx512_bf16": "_is_avx512_bf16_supported",
        "amx": "_is_amx_tile_supported",
    }
    return [name for name, question in asked.items() if getattr(torch.cpu, question, bool)()]


def _of_cpu() -> Precision:
    flags = cpu_flags()
    for flag, name in (("amx", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if flag in flags:
            return Precision("bfloat16", f"the CPU has {name}")
    return Precision("float32", "the CPU has no units for bfloat16")


def _of_cuda(device: torch.device) -> Precision:
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return Precision("bfloat16", f"the GPU has units for it (compute capability {major}.{minor})")
    if major >= 7:
        return Precision("float16", f"the GPU has units for it and none for bfloat16 (compute capability {major}.{minor})")
    return Precision("float32", f"the GPU has no units for half precision (compute capability {major}.{minor})")


@contextmanager
def reproducible(options: TrainOptions, device: torch.device) -> Iterator[None]:
    """Seed and threads for the run; the process gets its own settings back.

    On a GPU algorithms stay those that the caller has chosen: deterministic ones cost a lot there.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        if device.type == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
            # SegNet's unpooling, of which torch says so: its places do not overlap, so the order of writing cannot matter
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")
            torch.set_num_threads(options.threads or max(1, threads // options.devices))
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic)
