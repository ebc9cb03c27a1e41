"""Files to verdicts and pictures: runs every comparison of a job and keeps what a report needs of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.candidates import candidates_for, pairs_for
from refine_export.feeds import feeds_for, flow_kinds_of
from refine_export.frames import FramePair, cropped, padded_size
from refine_export.onnx_file import Artifact
from refine_export.progress import Progress
from refine_export.report.data import Comparison
from refine_export.report.html import FramePictures
from refine_export.report.pictures import Pictures, data_uri_from_frame, pictures_from_compared
from refine_export.runners.torch import TorchRunner
from refine_export.signature import SIGNATURES, GraphName
from refine_export.source import Source
from refine_export.validate import Candidate, Compared, ValidateOptions, validate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a report is made of."""

    comparisons: tuple[Comparison, ...]
    pictures: dict[str, Pictures]
    """By key of the comparison."""
    frames: FramePictures
    reference: str
    notes: tuple[str, ...]


def gather(
    reference: nn.Module,
    files: Sequence[tuple[Path, Artifact]],
    source: Source,
    options: ValidateOptions,
    progress: Progress,
) -> Evidence:
    """Compare every file with the reference, on each of its feeds and in each runtime.

    A file is loaded once per runtime; files of one graph share the feeds and the reference's outputs.
    """
    pair = source.pair
    comparisons: list[Comparison] = []
    pictures: dict[str, Pictures] = {}
    shown: Compared | None = None
    described = ""
    for graph in dict.fromkeys(artifact.graph for _, artifact in files):
        signature = SIGNATURES[graph]
        with TorchRunner(reference, graph, dtype=options.reference) as runner, ExitStack() as stack:
            described = f"{runner.backend} {runner.version}, {options.reference}, {runner.device}"
            settings: dict[tuple[tuple[int, int], int], tuple[FramePair, list[Candidate]]] = {}
            for path, artifact in files:
                if artifact.graph == graph:
                    candidates = stack.enter_context(candidates_for(path, artifact, options))
                    for fed, batch in pairs_for(artifact, source, options):
                        settings.setdefault((fed.size, batch), (fed, []))[1].extend(candidates)
            for (_, batch), (fed, candidates) in settings.items():
                crop = pair.size if fed.size == padded_size(*pair.size) else None
                feeds = feeds_for(reference, graph, fed, kinds=options.flows, timesteps=options.timesteps, batch=batch)
                with progress.step(f"compare {graph} at {_size(fed, batch)}") as say:
                    before = len(comparisons)
                    for compared in validate(signature, runner, candidates, feeds):
                        comparison = _comparison(len(comparisons) + 1, graph, fed, batch, compared)
                        comparisons.append(comparison)
                        picture = pictures_from_compared(compared, signature, crop=crop)
                        if picture is not None:
                            pictures[comparison.key] = picture
                        if _shows_more(compared, shown, pair):
                            shown = compared
                    say(_outcome(comparisons[before:]))
    notes = []
    if "network" in options.flows and "network" not in flow_kinds_of(reference, options.flows):
        notes.append("Flows of the kind `network` were not compared: these weights are a refinement without an IFNet.")
    frames, seen = _frames(pair, shown)
    return Evidence(
        comparisons=tuple(comparisons),
        pictures=pictures,
        frames=frames,
        reference=described,
        notes=(*notes, *seen),
    )


def _comparison(number: int, graph: GraphName, fed: FramePair, batch: int, compared: Compared) -> Comparison:
    candidate, verdict, runner = compared.candidate, compared.verdict, compared.candidate.runner
    provider = f"{runner.provider.removesuffix('ExecutionProvider')} {runner.version}" if runner else "not loaded"
    return Comparison(
        key=f"{number}. {candidate.file}: {verdict.feed}, {verdict.runtime}",
        graph=graph,
        file=candidate.file,
        size=fed.size,
        batch=batch,
        provider=provider,
        largest_flow_px=compared.feed.largest_flow_px,
        verdict=verdict,
    )


def _size(pair: FramePair, batch: int) -> str:
    height, width = pair.size
    return f"{height}x{width}" if batch == 1 else f"{batch}x{height}x{width}"


def _outcome(comparisons: Sequence[Comparison]) -> str:
    counts: dict[str, int] = {}
    worst: dict[str, float] = {}
    for comparison in comparisons:
        counts[comparison.verdict.status] = counts.get(comparison.verdict.status, 0) + 1
        for output in comparison.verdict.outputs:
            worst[comparison.file] = max(worst.get(comparison.file, 0.0), output.metrics.max_of_peak)
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    errors = ", ".join(f"{file} {error:.2g}" for file, error in worst.items() if error)
    return f"{said}; largest error: {errors}" if errors else said


def _shows_more(compared: Compared, shown: Compared | None, pair: FramePair) -> bool:
    """Whether this is the comparison whose frame heads the report: an interpolator's, at the pair's own size."""
    whole = [output.output for output in compared.verdict.outputs if output.metrics.max_abs is not None]
    return shown is None and "frame" in whole and compared.feed.size == padded_size(*pair.size)


def _frames(pair: FramePair, shown: Compared | None) -> tuple[FramePictures, list[str]]:
    """The pictures at the head of the report, and how near the frame between is to the true one."""
    notes = []
    between: NDArray[Any] | None = None
    caption = ""
    if shown is not None:
        caption = f"{shown.candidate.file}: {shown.feed.name}, {shown.verdict.runtime}"
        between = cropped(shown.actual["frame"], pair.size)[:1]
        if pair.middle is not None:
            measured = {
                "the ONNX file": between,
                "the reference": cropped(shown.expected["frame"], pair.size)[:1],
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


def _psnr(array: NDArray[Any], truth: NDArray[Any]) -> float:
    squared = float(((array - truth) ** 2).mean())
    return 10 * math.log10(1 / squared) if squared else math.inf
