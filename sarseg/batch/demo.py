"""The first five minutes: the whole line on simulated scenes, beside per-pixel classifiers, for several seeds.

Per seed one landscape, seen by two orbits. The line trains on the landscape's west and is assessed on its east, which no
patch touches in either scene. The baselines are Gaussian maximum likelihood (with the classes' shares as priors and a fit of
its own for each scene, which only helps them) on dB of VV and VH and the incidence angle, fed with the training windows'
pixels. Like is compared with like: the network's map of a scene with the classifier's of the same scene. The mosaic stands
beside the classifier that sees both scenes, their likelihoods multiplied; nothing is promised there.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sarseg.batch.comparison import Region, Scores, TrainingPixels, classified_by_network, classify_gaussian, draw, score
from sarseg.batch.config import Pipeline, packaged_pipeline, read_pipeline
from sarseg.batch.run import DATASET, LABELS, Outcome, run_pipeline
from sarseg.batch.state import ALL_SCENES, STATE, Ledger, Step, as_json, only_run
from sarseg.errors import UsageError
from sarseg.nets.baselines import boxcar
from sarseg.product.folder import ITEM, LANDCOVER, create_folder, write_json
from sarseg.product.open import Product, open_map, open_product
from sarseg.progress import Progress, silent
from sarseg.simulate.landscape import DEM_NAME, TRUTH_NAME
from sarseg.simulate.options import Direction
from sarseg.version import __version__

DOWNLOADS, LEE_ARD = "downloads", "ard-lee"
SUMMARY, COMPARISON = "summary.json", "comparison.png"
FULL_SIZE_PX = 1408
"""Side of the landscape for which pipelines/demo.yaml is written, in pixels of 10 m."""
CENTRE_M = (663_790.0, 5_329_760.0)
"""Middle of every made-up landscape, UTM zone 32N."""
MOST_ERRORS = 2.0 / 3.0
"""How many of the best baseline's errors the network may make."""
BASELINE_SHARE = (0.70, 0.90)
"""The best baseline's accuracy on a landscape that is neither trivial nor hopeless."""
ORBITS: tuple[tuple[Direction, float], ...] = (("ascending", 36.0), ("descending", 42.0))
"""Pass and incidence (degrees, at the landscape's middle) of the two scenes."""
FIELD_HA = 40.0
"""Median field of the landscapes: large, as on polders and plains."""
_BOXCAR_PX = 5
_NETWORK = "network"
_MOST_PROCESSES = 4  # each holds up to 2 GB
_LOOK_EVERY_S = 2.0
_STEPS_A_SEED = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How many landscapes, and their side in pixels of 10 m."""

    seeds: int = 3
    size_px: int = FULL_SIZE_PX

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"{self.seeds} seeds", hint="at least 1")
        if not 128 <= self.size_px <= 4096:
            raise UsageError(f"a landscape of {self.size_px} pixels", hint="128 to 4096")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """One landscape's outcome.

    Parameters
    ----------
    network, baselines : accuracies on the same pixels of the held-out region, of the scenes and of both together
    seconds : wall time of each part
    """

    seed: int
    folder: Path
    outcome: Outcome
    network: Scores
    baselines: Mapping[str, Scores]
    seconds: Mapping[str, float]

    @property
    def best_baseline(self) -> str:
        """Name of the baseline that errs least."""
        return max(self.baselines, key=lambda name: self.baselines[name].scenes.oa)

    @property
    def error_ratio(self) -> float:
        """Errors of the network over errors of the best baseline, in the maps of the scenes."""
        return (1.0 - self.network.scenes.oa) / (1.0 - self.baselines[self.best_baseline].scenes.oa)

    @property
    def mosaic_error_ratio(self) -> float:
        """Errors of the mosaic over those of the best classifier of both scenes together."""
        return (1.0 - self.network.together.oa) / (1.0 - max(one.together.oa for one in self.baselines.values()))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seed": self.seed,
            "scenes": list(self.outcome.scenes),
            "network": self.network.to_dict(),
            "baselines": {name: scores.to_dict() for name, scores in self.baselines.items()},
            "best_baseline": self.best_baseline,
            "error_ratio": self.error_ratio,
            "mosaic_error_ratio": self.mosaic_error_ratio,
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "paths": {
                "downloads": str(self.folder / DOWNLOADS),
                "landcover": str(self.outcome.landcover / LANDCOVER),
                "accuracy": str(self.outcome.accuracy),
                "comparison": str(self.folder / COMPARISON),
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The whole demo's outcome."""

    results: tuple[SeedResult, ...]
    landcover: Path
    summary: Path
    seconds: float

    @property
    def ratios(self) -> tuple[float, ...]:
        """Error ratio of each seed."""
        return tuple(result.error_ratio for result in self.results)

    def missed(self) -> list[str]:
        """The promises that were not kept, one sentence each."""
        missed = []
        mean, worst = float(np.mean(self.ratios)), max(self.ratios)
        for name, value in (("on average", mean), ("on the worst seed", worst)):
            if not value <= MOST_ERRORS:
                missed.append(f"the network errs {value:.3f} times as often as the best baseline {name}, not at most {MOST_ERRORS:.3f}")
        for result in self.results:
            share = result.baselines[result.best_baseline].scenes.oa
            if not BASELINE_SHARE[0] <= share <= BASELINE_SHARE[1]:
                missed.append(f"the best baseline of seed {result.seed} reaches {share:.3f}, outside of {BASELINE_SHARE}")
        return missed

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "sarseg": __version__,
            "error_ratio": {"mean": float(np.mean(self.ratios)), "worst": max(self.ratios), "promised_at_most": MOST_ERRORS},
            "mosaic_error_ratio": _mean_and_worst([r.mosaic_error_ratio for r in self.results], max),
            "network_accuracy": _mean_and_worst([r.network.scenes.oa for r in self.results], min),
            "best_baseline_accuracy": _mean_and_worst([r.baselines[r.best_baseline].scenes.oa for r in self.results], min),
            "mosaic_accuracy": _mean_and_worst([r.network.together.oa for r in self.results], min),
            "missed": self.missed(),
            "seconds": round(self.seconds, 2),
            "paths": {"landcover": str(self.landcover / LANDCOVER), "summary": str(self.summary)},
            "seeds": [result.to_dict() for result in self.results],
        }


def run_demo(out: Path, options: DemoOptions | None = None, progress: Progress = silent) -> DemoResult:
    """Simulate, run the packaged pipeline, and compare with the baselines, seed by seed; write `out` and its summary.json.

    What a stopped demo has finished is kept and not done again.
    """
    options = options or DemoOptions()
    start_s = time.monotonic()
    with only_run(out):
        results = tuple(run_seeds(out, options, progress))
        landcover = out / "landcover"
        with create_folder(landcover, mark=ITEM) as part:
            shutil.copytree(results[0].outcome.landcover, part, dirs_exist_ok=True)
        shutil.copy(results[0].folder / COMPARISON, out / COMPARISON)
        demo = DemoResult(results=results, landcover=landcover, summary=out / SUMMARY, seconds=time.monotonic() - start_s)
        write_json(demo.summary, demo.to_dict())
    return demo


def run_seeds(out: Path, options: DemoOptions, progress: Progress = silent) -> list[SeedResult]:
    """Every seed, side by side: a network this small keeps one core busy, and gains little from a second (measured)."""
    folders = [out / f"seed-{seed}" for seed in range(1, options.seeds + 1)]
    if options.seeds == 1:
        return [run_seed(folders[0], 1, options, progress)]
    # new interpreters: a fork of a process with threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(options.seeds, _MOST_PROCESSES), mp_context=context, initializer=_start_worker) as pool:
        futures = [pool.submit(run_seed, folder, seed, options) for seed, folder in enumerate(folders, start=1)]
        try:
            while wait(futures, timeout=_LOOK_EVERY_S, return_when=FIRST_EXCEPTION).not_done:
                done = sum(len(list((folder / STATE).glob("*/*.json"))) for folder in folders)
                progress(done, options.seeds * _STEPS_A_SEED, f"{options.seeds} seeds side by side, steps")
                if any(future.done() and future.exception() for future in futures):
                    break
            return [future.result() for future in futures]
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _start_worker() -> None:
    """A worker that leaves nothing half-written when it is ended, and whose warnings stay in the products' items."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends the workers
    logging.getLogger("sarseg").setLevel(logging.ERROR)


def run_seed(folder: Path, seed: int, options: DemoOptions, progress: Progress = silent) -> SeedResult:
    """One landscape: simulate its scenes, run the line, classify by the baselines, draw the comparison."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "simulate"):
        downloads = simulate_scenes(folder, seed, options.size_px, progress)
    pipeline = pipeline_for(seed, options.size_px)
    with _timed(seconds, "line"):
        outcome = run_pipeline(pipeline, downloads, folder, progress)
    with _timed(seconds, "baselines"):
        region = Region.of(open_map(outcome.landcover), downloads / TRUTH_NAME, pipeline.options["patches"]["test_bounds"])
        products = [open_product(path) for path in outcome.products]
        training = [TrainingPixels.of(folder / DATASET, name, folder / LABELS / f"{name}.tif") for name in outcome.scenes]
        progress(0, 3, "baselines")
        made = {"unfiltered": classify_gaussian(products, training, region)}
        progress(1, 3, "baselines")
        made["boxcar 5x5"] = classify_gaussian(products, training, region, lambda power: boxcar(power, _BOXCAR_PX))
        progress(2, 3, "baselines")
        made["Lee 7x7"] = classify_gaussian(lee_products(folder, pipeline, outcome, progress), training, region)
        progress(3, 3, "baselines")
    baselines = score(region, {_NETWORK: classified_by_network([open_map(path) for path in outcome.maps], region), **made})
    network = baselines.pop(_NETWORK)
    result = SeedResult(
        seed=seed,
        folder=folder,
        outcome=outcome,
        network=network,
        baselines=baselines,
        seconds={**seconds, **{f"line, {name}": value for name, value in outcome.seconds.items()}},
    )
    best = result.best_baseline
    shares = f"mosaic {network.together.oa:.1%}", f"Gaussian, {best} {baselines[best].together.oa:.1%}"
    draw(folder / COMPARISON, region, products[0], made[best].together, ("radar (VV, VH, VV/VH)", "truth", *shares))
    return result


def simulate_scenes(folder: Path, seed: int, size_px: int, progress: Progress = silent) -> Path:
    """One landscape and its two downloads in `folder`/downloads, which is returned; done once."""
    from sarseg.simulate.landscape import make_landscape, write_landscape
    from sarseg.simulate.options import LandscapeOptions, Sentinel1Options
    from sarseg.simulate.sentinel1 import simulate_sentinel1

    downloads = folder / DOWNLOADS
    landscape = LandscapeOptions(seed=seed, size_px=size_px, field_ha=FIELD_HA)
    scenes = [Sentinel1Options(seed=seed, direction=direction, incidence_deg=incidence_deg) for direction, incidence_deg in ORBITS]

    def simulate() -> None:
        with create_folder(downloads, mark=TRUTH_NAME) as part:
            write_landscape(make_landscape(landscape), part)
            for scene in scenes:
                simulate_sentinel1(part, replace(scene, landscape_dir=part), progress)

    options = {"landscape": as_json(landscape), "scenes": [as_json(scene) for scene in scenes]}
    Ledger(folder).carry_out(Step(name="simulate", scene=ALL_SCENES, options=options, output=downloads), simulate)
    return downloads


def pipeline_for(seed: int, size_px: int) -> Pipeline:
    """The packaged pipeline with a seed; for another size its held-out region shrinks or grows with the landscape."""
    pipeline = read_pipeline(packaged_pipeline("demo"))
    patches = dict(pipeline.options["patches"])
    middle, scale = (*CENTRE_M, *CENTRE_M), size_px / FULL_SIZE_PX
    patches["test_bounds"] = tuple(m + (edge - m) * scale for m, edge in zip(middle, patches["test_bounds"], strict=True))
    inputs = pipeline.inputs.model_copy(update={"seed": seed})
    return replace(pipeline, inputs=inputs, options={**pipeline.options, "patches": patches})


def lee_products(folder: Path, pipeline: Pipeline, outcome: Outcome, progress: Progress = silent) -> list[Product]:
    """The scenes preprocessed once more, with the Lee filter in radar geometry, for the baseline."""
    from sarseg.ard.preprocess import preprocess

    downloads = folder / DOWNLOADS
    options = replace(pipeline.options_of("preprocess", downloads), speckle="lee")
    products = []
    for name, plain in zip(outcome.scenes, outcome.products, strict=True):
        download, output = downloads / f"{name}.SAFE", folder / LEE_ARD / plain.name
        step = Step(name="lee", scene=name, inputs=(download, downloads / DEM_NAME), options=as_json(options), output=output)
        work = partial(preprocess, download, output.parent, dem=[downloads / DEM_NAME], options=options, progress=progress)
        Ledger(folder).carry_out(step, work)
        products.append(open_product(output))
    return products


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start_s = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start_s


def _mean_and_worst(values: Sequence[float], worst: Callable[[Sequence[float]], float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "worst": worst(values)}
