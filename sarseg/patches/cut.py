"""Cut windows out of images, in an order that decodes each block about once: on a grid, or at random until a count is met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, NODATA
from sarseg.patches.split import PatchOptions
from sarseg.patches.tally import Patch, Pixels, Place, Tally
from sarseg.patches.windows import (
    NONE,
    TRAIN,
    Positions,
    RandomWindows,
    Splitter,
    grid_windows,
    leak_check,
    leaks,
    shares,
    window_boxes,
)
from sarseg.progress import Progress
from sarseg.rng import generator
from sarseg.tiles import Window

_CELL = 1024  # windows that start in one such square are read together: a block is decoded about once
_ROUNDS = 200  # times that windows are drawn anew for those refused, before a shortfall is accepted
_MOST_DRAWN = 1 << 18  # positions tried without one that belongs to a split, before an image counts as exhausted
_BATCH = 4096
_NAMED = 3  # files that a message names
_NO_LABEL = f"where images have values, labels have only {NODATA} (nodata) and {IGNORE} (ignore)"


class Scene(Protocol):
    """An image with its labels."""

    @property
    def name(self) -> str:
        """As the index calls it."""
        ...

    @property
    def grid(self) -> MapGrid:
        """Of the image."""
        ...

    @property
    def labels_path(self) -> str:
        """Where its labels come from."""
        ...

    def read(self, window: Window) -> Pixels:
        """Pixels of a window inside the image."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cures:
    """What the user can do, in the words of whoever offers the options."""

    nothing_trains: str
    nothing_validates: str


@dataclass(slots=True)
class Refusals:
    """Why windows did not become patches."""

    without_split: int = 0
    too_empty: int = 0
    unlabelled: int = 0

    def __str__(self) -> str:
        return (
            f"of the windows tried {self.without_split} lie in a guard band, "
            f"{self.too_empty} hold too little data, {self.unlabelled} hold no label"
        )


class Supply:
    """Different random windows of an image; `guard_bands` "out" leaves those out that belong to no split."""

    def __init__(
        self, grid: MapGrid, splitter: Splitter, size: int, rng: np.random.Generator, *, guard_bands: Literal["out", "in"] = "out"
    ) -> None:
        self._grid, self._splitter, self._size, self._guard_bands = grid, splitter, size, guard_bands
        self._windows = RandomWindows(grid.shape, size, rng)
        self._ready: Positions = np.empty((0, 2), np.int64)
        self._drawn = 0
        self.positions = self._windows.positions
        self.dry = False

    def take(self, count: int, refused: Refusals) -> Positions:
        """Up to `count` windows, int64 (n, 2); fewer when there are no more, and the supply is then dry."""
        while len(self._ready) < count and not self.dry:
            drawn = self._windows.draw(max(count, _BATCH))
            kept = drawn
            if self._guard_bands == "out" and len(drawn):
                kept = drawn[self._splitter(self._grid, drawn, self._size) != NONE]
            refused.without_split += len(drawn) - len(kept)
            self._drawn += len(drawn)
            self._ready = np.concatenate([self._ready, kept])
            self.dry = not len(drawn) or (self._drawn > _MOST_DRAWN and not len(kept))
        found, self._ready = self._ready[:count], self._ready[count:]
        return found


class Cutter:
    """Windows of the scenes, chosen, read and checked, in the order in which they are stored.

    Parameters
    ----------
    guard_bands : "in" takes random windows that belong to no split too, so that every pixel can come
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        splitters: Sequence[Splitter],
        options: PatchOptions,
        *,
        guard_bands: Literal["out", "in"] = "out",
    ) -> None:
        self.scenes, self.splitters, self.options = scenes, splitters, options
        self.refused = Refusals()
        self._guard_bands = guard_bands
        self._taken: list[tuple[int, int, NDArray[np.float64]]] = []
        self._unlabelled: set[int] = set()
        """Scenes with a window that holds no label."""

    def patches(self, progress: Progress) -> Iterator[Patch]:
        """All patches, each read once."""
        for patch in self._at_random(progress) if self.options.count is not None else self._on_grid(progress):
            self._taken.append((patch.scene, patch.split, patch.box))
            yield patch

    def _on_grid(self, progress: Progress) -> Iterator[Patch]:
        size = self.options.size
        for done, (scene, splitter) in enumerate(zip(self.scenes, self.splitters, strict=True)):
            grid = scene.grid
            positions = grid_windows(grid.shape, size, self.options.stride or size)
            kept = positions[splitter(grid, positions, size) != NONE]
            self.refused.without_split += len(positions) - len(kept)
            progress(done, len(self.scenes), "patches: images")
            yield from self._read(done, kept)
        progress(len(self.scenes), len(self.scenes), "patches: images")

    def _at_random(self, progress: Progress) -> Iterator[Patch]:
        options = self.options
        total = missing = options.count or 0
        supplies = [
            Supply(scene.grid, splitter, options.size, generator(options.seed, number), guard_bands=self._guard_bands)
            for number, (scene, splitter) in enumerate(zip(self.scenes, self.splitters, strict=True))
        ]
        for _ in range(_ROUNDS):
            wanted = shares(missing, [0 if supply.dry else supply.positions for supply in supplies])
            for number, (supply, count) in enumerate(zip(supplies, wanted, strict=True)):
                if not count:
                    continue
                for patch in self._read(number, supply.take(count, self.refused)):
                    yield patch
                    missing -= 1
                    progress(total - missing, total, "patches")
            if not missing or all(supply.dry for supply in supplies):
                return

    def _read(self, number: int, positions: Positions) -> Iterator[Patch]:
        if not len(positions):
            return
        scene, splitter, size = self.scenes[number], self.splitters[number], self.options.size
        grid = scene.grid
        crs = grid.crs.to_string() if grid.crs is not None else ""
        split, boxes = splitter(grid, positions, size), splitter.boxes(grid, positions, size)
        blocks = splitter.blocks(grid, positions, size)
        own = window_boxes(grid, positions, (size, size), grid.crs)
        for cell in _cells(positions):
            window = _union(positions[cell], size)
            pixels = scene.read(window)
            for at in cell:
                row, col = (int(start) for start in positions[at])
                part = pixels.crop(Window(row=row, col=col, rows=size, cols=size).relative_to(window))
                valid_share = float(np.count_nonzero(np.isfinite(part.image).all(0))) / size**2
                if self._refuse(number, valid_share, part.mask):
                    continue
                left, bottom, right, top = (float(edge) for edge in own[at])
                place = Place(scene=scene.name, block=blocks[at], row=row, col=col, crs=crs, bounds=(left, bottom, right, top))
                yield Patch(pixels=part, split=int(split[at]), place=place, valid_share=valid_share, scene=number, box=boxes[at])

    def _refuse(self, number: int, valid_share: float, mask: NDArray[np.uint8]) -> bool:
        if valid_share < self.options.min_valid:
            self.refused.too_empty += 1
            return True
        if (mask == IGNORE).all():
            self.refused.unlabelled += 1
            self._unlabelled.add(number)
            return True
        return False

    def judge(self, tally: Tally, cures: Cures) -> list[str]:
        """What the user must know about the windows; InputError when nothing has a label, nothing trains or the split leaks."""
        options = self.options
        bare = [self.scenes[at].labels_path for at in sorted(self._unlabelled - {scene for scene, *_ in self._taken})]
        if not len(tally) and bare:
            raise InputError("no window holds a label", _some(bare), f"{_NO_LABEL}; {self.refused}")
        if tally.without_split("train"):
            raise InputError(f"no training window among {len(tally)}", hint=f"{self.refused}; {cures.nothing_trains}")
        warnings = [f"{len(bare)} of {len(self.scenes)} images give no window with a label, for {_NO_LABEL}: {_some(bare)}"] if bare else []
        if len(names := tally.classes_there()) == 1:
            where = _some([scene.labels_path for scene in self.scenes])
            warnings.append(f"every label is '{names[0]}', and `sarseg train` wants two classes or more: look at {where}")
        if options.count is not None and len(tally) < options.count:
            warnings.append(f"{len(tally)} patches instead of {options.count}: there are no more different ones; {self.refused}")
        if options.val_share > 0 and tally.without_split("val"):
            warnings.append(f"no patch validates: {cures.nothing_validates}")
        return warnings + self._check_leaks()

    def _check_leaks(self) -> list[str]:
        numbers, splits, outlines = zip(*self._taken, strict=True)
        split, boxes = np.array(splits, np.int8), np.array(outlines)
        group = np.array([splitter.plan_number for splitter in self.splitters])[list(numbers)]
        warnings = []
        for one in np.unique(group):
            here = group == one
            guard = self.splitters[numbers[int(np.flatnonzero(here)[0])]].plan.guard_m
            if self.options.split != "random":
                leak_check(boxes[here], split[here], guard)
                continue
            share = leaks(boxes[here], split[here], guard).sum() / max(1, (split[here] > TRAIN).sum())
            warnings.append(
                f"random split: {share:.0%} of the patches held out lie within {guard:g} of training patches: accuracies flatter"
            )
        return warnings


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_NAMED]) + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")


def _cells(positions: Positions) -> list[NDArray[np.int64]]:
    """Indices of windows that start in one square of `_CELL` pixels, square by square, row by row."""
    cell = positions // _CELL
    order = np.lexsort((positions[:, 1], positions[:, 0], cell[:, 1], cell[:, 0]))
    changes = np.flatnonzero((np.diff(cell[order], axis=0) != 0).any(1)) + 1
    return np.split(order, changes)


def _union(positions: Positions, size: int) -> Window:
    (row, col), (last_row, last_col) = positions.min(0).tolist(), positions.max(0).tolist()
    return Window(row=row, col=col, rows=last_row + size - row, cols=last_col + size - col)
