"""How labels are made of a source, and how far their year may lie from the scene's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sarseg.errors import InputError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """What is done with the codes of a source (docs/labels.md).

    Parameters
    ----------
    kind : what the source is, e.g. "fnf4" or "hrlulc21.11", where neither its name nor its content says it
    remap : a ready table ("sar5", "fnf", "worldcover"), or the path of a YAML file with `value: code` lines
    min_purity : share of a pixel's area, 0..1, that its class must have when the labels are finer; else it is ignore
    max_years : labels that are more calendar years away from the scene are refused
    class_field : the field of a vector file that holds the class
    year : of the labels, where their name does not say it
    """

    kind: str | None = None
    remap: str | None = None
    min_purity: float | None = None
    max_years: int = 3
    class_field: str | None = None
    year: int | None = None

    def __post_init__(self) -> None:
        if self.min_purity is not None and not 0 < self.min_purity <= 1:
            raise UsageError(f"min_purity {self.min_purity} is not above 0 and up to 1")
        if self.max_years < 0:
            raise UsageError(f"max_years {self.max_years} is below 0")
        if self.year is not None and not 1900 <= self.year <= 2200:
            raise UsageError(f"{self.year} is no year of labels")


def check_dates(labels_year: int | None, scene_datetime: str | None, max_years: int) -> None:
    """Refuse labels too many calendar years from the scene; where one of the two dates is not known there is nothing to refuse.

    Parameters
    ----------
    scene_datetime : ISO 8601

    InputError when the years differ by more than `max_years`.
    """
    found = re.match(r"(\d{4})-", scene_datetime or "")
    if labels_year is None or found is None:
        return
    scene_year = int(found[1])
    if abs(scene_year - labels_year) > max_years:
        what = f"the labels are of {labels_year} and the scene of {scene_year}: more than {max_years} years apart"
        raise InputError(what, hint="take others, or allow it with --max-years (labels_max_years in a pipeline)")
