"""The pictures that a report keeps: of the worst run of each file, runtime and size, and of the worst failures."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from refine_export.accuracy.effective_limits import limits_on
from refine_export.accuracy.metrics import psnr_from_mse
from refine_export.data.images import FramePair, cropped
from refine_export.report.pictures import FramePictures, Pictures, data_uri_from_frame, pictures_from_compared
from refine_export.report.report_data import Comparison, GroupKey
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import Compared

MOST_FAILED = 24
"""Failed runs with pictures, beside the worst of each group."""


class PictureSelection:
    """Keep pictures while runs go by; their number depends on the number of files and sizes, not on that of runs.

    Args:
        size: height and width of the frames before they were padded.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.pictures: dict[str, Pictures] = {}
        """Key of the comparison -> its pictures."""
        self._size = size
        self._worst: dict[GroupKey, tuple[float, str]] = {}
        self._failed: dict[str, float] = {}
        self._shown: Compared | None = None  # the first interpolated frame of the first pair heads the report

    def add(self, comparison: Comparison, compared: Compared, *, own: bool) -> None:
        """Keep the pictures of a run if they are among the worst.

        Args:
            comparison: the run without its arrays.
            compared: the run with its arrays.
            own: the frames are at their own size, padded.
        """
        finite = [output.output for output in compared.verdict.outputs if output.metrics.max_abs is not None]
        if own and self._shown is None and "frame" in finite:
            self._shown = compared
        badness = _badness(comparison)
        known, _ = self._worst.get(comparison.group_key, (-1.0, ""))
        failed = comparison.verdict.status == "failed"
        if failed and (len(self._failed) < MOST_FAILED or badness > min(self._failed.values())):
            self._failed[comparison.key] = badness
        elif badness <= known:
            return
        if badness > known:
            self._worst[comparison.group_key] = (badness, comparison.key)
        if len(self._failed) > MOST_FAILED:
            del self._failed[min(self._failed, key=self._failed.__getitem__)]
        crop = self._size if own else None
        picture = pictures_from_compared(compared, SIGNATURES[comparison.graph], crop=crop)
        if picture is not None:
            self.pictures[comparison.key] = picture
        # The new run may have taken the place of another, whose pictures nothing needs any more.
        kept = {*self._failed, *(key for _, key in self._worst.values())}
        self.pictures = {key: picture for key, picture in self.pictures.items() if key in kept}

    def frames(self, pair: FramePair) -> tuple[FramePictures, list[str]]:
        """Draw the head of the report, and note how near the interpolated frame is to the true one."""
        notes = []
        between: NDArray[Any] | None = None
        caption = ""
        if self._shown is not None:
            caption = f"{self._shown.candidate.file}: {self._shown.feed.name}, {self._shown.verdict.runtime}"
            between = cropped(self._shown.actual["frame"], pair.size)[:1]
            if pair.middle is not None:
                frames = {
                    self._shown.candidate.file: between,
                    "the reference": cropped(self._shown.expected["frame"], pair.size)[:1],
                    "the average of the two frames": (pair.img0 + pair.img1) / 2,
                }
                values = ", ".join(
                    f"{name} {psnr_from_mse(((frame - pair.middle) ** 2).mean()):.1f} dB"
                    for name, frame in frames.items()
                )
                notes.append(f"PSNR against the true middle frame, which only trained weights come near to: {values}.")
        return (
            FramePictures(
                img0=data_uri_from_frame(pair.img0),
                img1=data_uri_from_frame(pair.img1),
                middle=None if pair.middle is None else data_uri_from_frame(pair.middle),
                interpolated=None if between is None else data_uri_from_frame(between),
                interpolated_caption=caption,
            ),
            notes,
        )


def _badness(comparison: Comparison) -> float:
    """Return the largest error in units of its limit: infinite for NaN or infinity, 0 without outputs."""
    limits = comparison.verdict.limits
    ratios = (
        one.metrics.max_of_peak / limits_on(limits, one.metrics.rounding).max_abs for one in comparison.verdict.outputs
    )
    return max(ratios, default=0.0)
