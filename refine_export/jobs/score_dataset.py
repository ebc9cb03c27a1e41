"""`score`: quality against the true middle frames of a data set, of torch and of every file in every runtime."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from refine_export.artifacts import Artifact
from refine_export.checkpoint.checkpoint import checkpoint_description
from refine_export.engine.engine_manifest import artifact_from_path
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.errors import RequestError
from refine_export.interpolation.interpolator import LocalInterpolator
from refine_export.jobs.job_options import options_from_keywords, part_of, takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, any_paths_of, job_inputs, path_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.report.figure_page import html_from_tables
from refine_export.report.report_data import Shortfall
from refine_export.runners.torch import TorchRunner
from refine_export.score.layouts import DataSet, data_set_from_folder
from refine_export.score.score_options import ScoreOptions
from refine_export.score.score_result import Scores, losses_beyond, split_scores
from refine_export.score.scoring import Contestant, Score, score_log, score_triplets
from refine_export.signature import padded_size
from refine_export.support.environment import COMPARERS, machine, versions
from refine_export.support.files import make_folder, write_text
from refine_export.support.manifest import fingerprint
from refine_export.support.progress import Progress
from refine_export.support.text import json_text, size_text
from refine_export.validate.comparison import Status, overall
from refine_export.validate.runtimes import candidates_for
from refine_export.validate.validate_options import ValidateOptions


@takes_options(ScoreOptions)
def score(
    data_set: AnyPath,
    files: AnyPath | Sequence[AnyPath] = (),
    *,
    checkpoint: AnyPath | None = None,
    refine: bool | None = None,
    output: AnyPath | None = None,
    recipe: AnyRecipe = None,
    progress: Progress | None = None,
    **options: Any,
) -> Scores:
    """Measure PSNR, SSIM and interpolation error against the true middle frames, in torch and in files.

    Args:
        data_set: a folder in one of the layouts of `score.layouts`.
        files: interpolators, as ONNX files or engines, beside torch; paths or earlier results.
        checkpoint: the weights; those of the files. Defaults to released RIFE 4.0.
        refine: use the refinement of a RIFE 4.0 file that has one.
        output: folder for score.json, score.html and a log, from which the same call continues after an interruption.
        recipe: Recipe object or path, for the weights; explicit options override it.
        progress: receives the triplets.
        options: fields of `ScoreOptions`.

    Raises:
        FrameError: the data set is incomplete, or of another layout; see `data_set_from_folder`.
        RequestError: `makes-no-frames`, `other-weights`, `size-not-taken`, `mixed-scales` or another problem of a file;
            `reference-overflows`; weights or options that cannot be used.
        UnavailableError: torch is missing, or weights are not there.
    """
    started = time.perf_counter()
    chosen = options_from_keywords(ScoreOptions, options)
    inputs = job_inputs(recipe, progress, checkpoint, refine=refine)
    folder = None if output is None else path_of(output)
    path = path_of(data_set)
    with inputs.progress.step("look at the data set") as say:
        data = data_set_from_folder(path, chosen.layout, chosen.limit)
        say(f"{data.layout}, {len(data.triplets)} triplets")
    known = _checked_files([(one, artifact_from_path(one)) for one in any_paths_of(files)], inputs, data)
    if folder is not None:
        make_folder(folder)
    notes: dict[str, None] = dict.fromkeys(data.notes)
    show = functools.partial(inputs.progress.within, "triplet", steps=len(data.triplets))
    scores: list[Score] = []
    with ExitStack() as stack:
        contestants, shortfalls = _contestants(known, inputs, chosen, stack)
        log = stack.enter_context(score_log(None if folder is None else folder / "score.jsonl"))
        with inputs.progress.step(f"score {len(contestants)} x {len(data.triplets)} triplets") as say:
            for one in score_triplets(data.triplets, contestants, log, notes.setdefault, show):
                scores.append(one)
                if one.quality is None and one.contestant is contestants[0]:
                    raise RequestError(
                        f"torch itself gives no frame of {one.reason}; check the checkpoint", code="reference-overflows"
                    )
                if one.quality is None:
                    shortfalls.append(_shortfall(one.contestant.file, one.contestant.runtime, failed=one.reason))
            run_seconds = sum(one.seconds for one in scores)
            say(f"{run_seconds:.1f} s of runs, {sum(not one.seconds for one in scores)} figures of earlier ones")
    means = split_scores(scores)
    shortfalls += losses_beyond(means, chosen.max_loss_db)
    result = Scores(
        status=overall(["passed", *(one.status for one in shortfalls)]),
        folder=folder,
        layout=data.layout,
        data_set=path.resolve().name,
        checkpoint=checkpoint_description(inputs.checkpoint),
        scores=means,
        shortfalls=tuple(shortfalls),
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
        run_seconds=run_seconds,
        environment=versions(COMPARERS) | machine(),
    )
    if folder is not None:
        write_text(folder / "score.html", _page(result))
        write_text(folder / "score.json", json_text(result.to_dict()))
    return result


def _checked_files(
    files: Sequence[tuple[Path, Artifact]], inputs: JobInputs, data: DataSet
) -> list[tuple[Path, Artifact]]:
    """Refuse files that cannot be scored on this data set, and give all the same padding."""
    checked = []
    for path, artifact in files:
        if artifact.graph != "interpolator":
            problem = f"is {artifact.graph}, which makes no frames; expected interpolator"
            raise RequestError.about(path, "makes-no-frames", problem)
        checked.append((path, inputs.check_weights(path, artifact)))
    if len({artifact.scale for _, artifact in checked}) > 1:
        scales = ", ".join(f"{path} {artifact.scale:g}" for path, artifact in checked)
        raise RequestError(f"the files have different scales: {scales}; score them one by one", code="mixed-scales")
    multiple_of = max((artifact.multiple_of for _, artifact in checked), default=1)
    checked = [(path, dataclasses.replace(artifact, multiple_of=multiple_of)) for path, artifact in checked]
    for path, artifact in checked:
        for size in sorted(data.sizes):
            if not artifact.accepts((1, *(fed := padded_size(*size, multiple_of)))):
                problem = (
                    f"takes {artifact.sizes}, and frames of {size_text(size)} are fed as {size_text((1, 3, *fed))}"
                )
                raise RequestError.about(
                    path, "size-not-taken", f"{problem}; make a file for this size, or a dynamic one", size=fed
                )
    return checked


def _contestants(
    files: Sequence[tuple[Path, Artifact]], inputs: JobInputs, options: ScoreOptions, stack: ExitStack
) -> tuple[list[Contestant], list[Shortfall]]:
    """Open torch and every file in each of its runtimes, or say why that is not possible."""
    scale = files[0][1].scale if files else 1.0
    torch = stack.enter_context(TorchRunner(inputs.network(scale), "interpolator", device=options.device))
    multiple_of = files[0][1].multiple_of if files else torch.signature.multiple_of
    weights = inputs.checkpoint.sha256, inputs.checkpoint.network, scale, multiple_of
    own = fingerprint("torch", torch.version, torch.device, weights)
    interpolator = LocalInterpolator(torch, multiple_of=multiple_of)
    contestants = [Contestant(file="torch", runtime="torch", interpolator=interpolator, fingerprint=own)]
    shortfalls: list[Shortfall] = []
    runtimes = ValidateOptions(runtimes=options.runtimes, **part_of(vars(options), EngineRunOptions))
    for path, artifact in files:
        for one in stack.enter_context(candidates_for(path, artifact, runtimes)):
            if one.runner is None:
                shortfalls.append(_shortfall(path.name, one.runtime, failed=one.refused, missing=one.missing))
                continue
            runner = one.runner
            key = fingerprint(artifact.sha256, one.runtime, runner.version, runner.device, runner.provider, weights)
            interpolator = LocalInterpolator(runner, artifact)
            contestants.append(
                Contestant(file=path.name, runtime=one.runtime, interpolator=interpolator, fingerprint=key)
            )
    return contestants, shortfalls


def _shortfall(file: str, runtime: str, *, failed: str | None = None, missing: str | None = None) -> Shortfall:
    status: Status = "failed" if failed else "not compared"
    return Shortfall(what=f"{file} in {runtime}", status=status, reason=failed or missing or "")


def _page(result: Scores) -> str:
    facts = {
        "Data set": f"{result.data_set}, in the layout {result.layout}",
        "Weights": str(result.checkpoint["source"]),
        "Time": f"{result.seconds:.1f} s, of which {result.run_seconds:.1f} s are runs",
        **{f"{one.file} in {one.runtime}": one.provider for one in result.scores},
        **result.environment,
    }
    return html_from_tables(
        f"Scores on {result.data_set}", result.status, result.summary(), result.tables(), result.notes, facts
    )
