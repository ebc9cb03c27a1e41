"""Results of `deploy verify`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refine_export.deploy.verify.load_test import Load, LoadRequest
from refine_export.report.report_data import Shortfall
from refine_export.support.text import dict_from_result
from refine_export.validate.comparison import Status


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a model, compared with the reference."""

    model: str
    channel: str
    feed: str
    status: Status
    reasons: tuple[str, ...]
    """Why it did not pass."""
    numbers: dict[str, float | None]
    """Figures of a network: `psnr_db` of its worst output (None where all are equal) and `max_of_peak`; of the
    ensemble: `levels` and `mean_levels`; empty where nothing could be measured."""


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """All answers of one model, and requests for a load test of it."""

    answers: tuple[Answer, ...]
    load_requests: tuple[LoadRequest, ...]
    size: tuple[int, int]
    """Height and width of the load test's requests."""


@dataclass(frozen=True, kw_only=True)
class Verified:
    """Result of the job."""

    status: Status
    server: str
    """Such as `triton 2.51.0`."""
    channels: dict[str, str]
    """Name of each channel -> its address."""
    models: dict[str, dict[str, Any]]
    """Graph, version, precision and hashes of each network, as the server has them."""
    answers: tuple[Answer, ...]
    loads: tuple[Load, ...]
    shortfalls: tuple[Shortfall, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True where every model was compared and every answer is right."""
        return self.status == "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        content = dict_from_result(self)
        for load, measured in zip(content["loads"], self.loads, strict=True):
            load["per_second"] = measured.per_second
        return content
