"""What `deploy verify` finds out, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refine_export.deploy.verify.load_test import Load, Question
from refine_export.report.data import Shortfall
from refine_export.support.text import dict_from_result
from refine_export.validate.comparison import Status


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One model over one channel on one feed."""

    model: str
    channel: str
    feed: str
    status: Status
    reasons: tuple[str, ...]
    """Why it did not pass."""
    numbers: dict[str, float | None]
    """Of a network `psnr_db` of its worst output (None where all are equal) and `max_of_peak`; of the ensemble
    `levels` and `mean_levels`. Empty where nothing could be measured."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All answers of one model, and what it can be asked to see how fast it is."""

    answers: tuple[Answered, ...]
    questions: tuple[Question, ...]
    size: tuple[int, int]
    """Height and width of the questions."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """The result of the job."""

    status: Status
    server: str
    """Such as `triton 2.51.0`."""
    channels: dict[str, str]
    """Name of each to its address."""
    models: dict[str, dict[str, Any]]
    """What each network says it is."""
    answers: tuple[Answered, ...]
    loads: tuple[Load, ...]
    shortfalls: tuple[Shortfall, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON types; NaN and infinity, which JSON lacks, become null."""
        content = dict_from_result(self)
        for load, measured in zip(content["loads"], self.loads, strict=True):
            load["per_second"] = measured.per_second
        return content


def status_of_load(load: Load) -> Status:
    """Failed if any request did."""
    return "failed" if load.errors else "passed"
