"""Figures of contestants on a data set: means over the triplets of a split, and the loss against torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from refine_export.report.figure_page import FigureTable
from refine_export.report.report_data import Shortfall
from refine_export.score.frame_quality import Quality
from refine_export.score.layouts import Triplet
from refine_export.score.score_options import Layout
from refine_export.score.scoring import Contestant, Score
from refine_export.support.text import dict_from_result
from refine_export.validate.comparison import Status


@dataclass(frozen=True, kw_only=True)
class SplitScore:
    """Means of one contestant over one split."""

    split: str
    file: str
    runtime: str
    provider: str
    triplets: int
    mean: Quality
    loss_db: float
    """Torch's PSNR less this one's; below 0 where this is nearer to the truth."""
    worst_loss_db: float
    """The largest loss on one triplet."""
    worst: str
    """Name of that triplet."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Quality against the true middle frames of a data set."""

    status: Status
    """`failed` where a file gives no frames or loses more than allowed, `not compared` where one could not be run."""
    folder: Path | None
    """Folder of `score.json`, `score.html` and the log, if they were written."""
    layout: Layout
    data_set: str
    checkpoint: Mapping[str, Any]
    """Description of the weights."""
    scores: tuple[SplitScore, ...]
    shortfalls: tuple[Shortfall, ...]
    """Files that this machine cannot run, that give no frames, or that lose more than allowed."""
    notes: tuple[str, ...]
    seconds: float
    run_seconds: float
    """Time of the runs alone."""
    environment: Mapping[str, str] = field(repr=False)

    @property
    def passed(self) -> bool:
        """True if every file was scored and none loses more than is allowed."""
        return self.status == "passed"

    @property
    def path(self) -> Path | None:
        """`score.json`, if it was written."""
        return None if self.folder is None else self.folder / "score.json"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return dict_from_result(self)

    def tables(self) -> list[FigureTable]:
        """Return the figures, and what has none, for the page and the console."""
        headings = "split file runtime >triplets >PSNR_dB >loss_dB >largest_loss on >SSIM >IE >mean_difference"
        return [
            FigureTable(
                title="Quality against the true frames",
                lead="Means over the triplets of a split. The loss is torch's PSNR less the file's, in the mean and on "
                "the triplet where it is largest. IE is the root mean square of the difference in 0 to 255; many "
                "papers print the mean difference as IE.",
                headings=tuple(heading.replace("_", " ") for heading in headings.split()),
                rows=tuple(_row(one) for one in self.scores),
            ),
            FigureTable(
                title="Not scored, or failed",
                lead="Files that this machine cannot run, that give no frames, or that lose more than allowed.",
                headings=("file", "status", "reason"),
                rows=tuple((one.what, one.status, one.reason) for one in self.shortfalls),
            ),
        ]

    def summary(self) -> str:
        """Return a line for each split: `test: 35.61 dB in torch, 35.60 in interpolator.fp16.onnx (half)`."""
        lines = []
        for split in dict.fromkeys(one.split for one in self.scores):
            torch, *others = [one for one in self.scores if one.split == split]
            texts = [f"{one.mean.psnr_db:.2f} in {one.file} ({one.runtime})" for one in others]
            lines.append(f"{split}: " + ", ".join([f"{torch.mean.psnr_db:.2f} dB in torch", *texts]))
        return "\n".join(lines)


def _row(one: SplitScore) -> tuple[str, ...]:
    mean = one.mean
    names = one.split, one.file, one.runtime, f"{one.triplets:,}"
    losses = ("", "", "")
    if one.runtime != "torch":
        losses = f"{one.loss_db:.3f}", f"{one.worst_loss_db:.3f}", one.worst
    return *names, f"{mean.psnr_db:.2f}", *losses, f"{mean.ssim:.4f}", f"{mean.ie:.3f}", f"{mean.mean_abs:.3f}"


def split_scores(scores: Iterable[Score]) -> tuple[SplitScore, ...]:
    """Average the scores of each contestant over each split; those of contestants that failed are left out.

    Args:
        scores: of all triplets, torch's first.
    """
    by_split: dict[str, dict[Contestant, dict[Triplet, Quality]]] = {}
    failed: set[Contestant] = set()
    for score in scores:
        if score.quality is None:
            failed.add(score.contestant)
        else:
            found = by_split.setdefault(score.triplet.split, {}).setdefault(score.contestant, {})
            found[score.triplet] = score.quality
    return tuple(
        _mean(split, contestant, members, next(iter(of_split.values())))
        for split, of_split in by_split.items()
        for contestant, members in of_split.items()
        if contestant not in failed
    )


def _mean(
    split: str, contestant: Contestant, members: Mapping[Triplet, Quality], torch: Mapping[Triplet, Quality]
) -> SplitScore:
    losses = {triplet: torch[triplet].psnr_db - quality.psnr_db for triplet, quality in members.items()}
    worst = max(losses, key=losses.__getitem__)
    names = [one.name for one in fields(Quality)]
    return SplitScore(
        split=split,
        file=contestant.file,
        runtime=contestant.runtime,
        provider=contestant.interpolator.provider,
        triplets=len(members),
        mean=Quality(**{name: fmean(getattr(one, name) for one in members.values()) for name in names}),
        loss_db=fmean(losses.values()),
        worst_loss_db=losses[worst],
        worst=worst.name,
    )


def losses_beyond(scores: Sequence[SplitScore], max_loss_db: float | None) -> list[Shortfall]:
    """Return a failure for each split on which a file loses more than allowed."""
    return [
        Shortfall(
            what=f"{one.file} in {one.runtime}",
            status="failed",
            reason=f"{one.split}: {one.loss_db:.3f} dB below torch; at most {max_loss_db:g} dB are allowed",
        )
        for one in scores
        if max_loss_db is not None and one.loss_db > max_loss_db
    ]
