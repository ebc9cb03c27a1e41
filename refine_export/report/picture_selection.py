"""The pictures that a report keeps: of each file, runtime and size the worst run, of what failed the worst few."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from refine_export.data.images import FramePair, cropped
from refine_export.report.data import Comparison
from refine_export.report.html import FramePictures
from refine_export.report.pictures import Pictures, data_uri_from_frame, pictures_from_compared
from refine_export.signature import SIGNATURES
from refine_export.validate.comparison import Compared

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_FAILED = 24
"""Failed runs with pictures, beside the worst of each group."""
_Group = tuple[str, str, tuple[int, int], int]


class Album:
    """Keeps pictures while runs go by; their number depends on the number of files and sizes, not on that of runs.

    Args:
        size: height and width of the frames before they were padded.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._worst: dict[_Group, tuple[float, str]] = {}
        self._failed: dict[str, float] = {}
        self._made: dict[str, Pictures] = {}
        self._shown: Compared | None = None  # whose frame heads the report: an interpolator's, of the first pair

    @property
    def pictures(self) -> dict[str, Pictures]:
        """By key of the comparison."""
        return dict(self._made)

    def add(self, comparison: Comparison, compared: Compared, *, own: bool) -> None:
        """Look at a run, and keep its pictures if they are worth it.

        Args:
            comparison: what is known of it.
            compared: the same with its arrays.
            own: the frames are at their own size, padded.
        """
        finite = [output.output for output in compared.verdict.outputs if output.metrics.max_abs is not None]
        if own and self._shown is None and "frame" in finite:
            self._shown = compared
        badness = _badness(comparison)
        group = (comparison.file, comparison.verdict.runtime, comparison.size, comparison.batch)
        failed = comparison.verdict.status == "failed"
        known, _ = self._worst.get(group, (-1.0, ""))
        wanted = badness > known
        if failed and (len(self._failed) < MOST_FAILED or badness > min(self._failed.values())):
            self._failed[comparison.key] = badness
            wanted = True
        if not wanted:
            return
        crop = self._size if own else None
        picture = pictures_from_compared(compared, SIGNATURES[comparison.graph], crop=crop)
        if badness > known:
            self._worst[group] = (badness, comparison.key)
        if len(self._failed) > MOST_FAILED:
            del self._failed[min(self._failed, key=self._failed.__getitem__)]
        if picture is not None:
            self._made[comparison.key] = picture
        kept = {*self._failed, *(key for _, key in self._worst.values())}
        for key in [key for key in self._made if key not in kept]:
            del self._made[key]

    def frames(self, pair: FramePair) -> tuple[FramePictures, list[str]]:
        """The pictures at the head of the report, and how near the frame between is to the true one."""
        notes = []
        between: NDArray[Any] | None = None
        caption = ""
        if self._shown is not None:
            caption = f"{self._shown.candidate.file}: {self._shown.feed.name}, {self._shown.verdict.runtime}"
            between = cropped(self._shown.actual["frame"], pair.size)[:1]
            if pair.middle is not None:
                measured = {
                    "the ONNX file": between,
                    "the reference": cropped(self._shown.expected["frame"], pair.size)[:1],
                    "the average of the two frames": (pair.img0 + pair.img1) / 2,
                }
                values = ", ".join(f"{name} {_psnr(array, pair.middle):.1f} dB" for name, array in measured.items())
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
    """The largest error in units of its limit; infinite where there is no finite one to compare."""
    outputs = comparison.verdict.outputs
    limit = comparison.verdict.limits.max_abs
    return max((output.metrics.max_of_peak / limit for output in outputs), default=0.0)


def _psnr(array: NDArray[Any], truth: NDArray[Any]) -> float:
    squared = float(((array - truth) ** 2).mean())
    return 10 * math.log10(1 / squared) if squared else math.inf
