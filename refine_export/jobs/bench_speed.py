"""`bench`: latency, throughput and memory of files and of torch, side by side in one run."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.artifacts import Sizes
from refine_export.bench.bench_files import BenchFile, bench_file, points_of
from refine_export.bench.bench_options import BenchOptions
from refine_export.bench.bench_result import Benchmarks, Measurement, PointState, notes_on_noise
from refine_export.bench.gpu_state import GpuState, gpu_state
from refine_export.bench.measuring import Ready, measurements_from_seconds, ready_subject
from refine_export.bench.memory_child import Memory, measure_memory
from refine_export.bench.subjects import Mode, Subject, feeds_at, on_gpu, open_subject
from refine_export.engine.engine_manifest import (
    engine_bytes,
    engine_details,
    manifest_of,
    read_engine_manifest,
    why_not_executable,
)
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.errors import RefineExportError, RequestError, UnavailableError
from refine_export.jobs.job_options import options_from_keywords, part_of, takes_options
from refine_export.jobs.load_inputs import AnyPath, JobInputs, job_inputs, path_of, paths_of
from refine_export.jobs.recipe_file import AnyRecipe
from refine_export.report.figure_page import html_from_tables
from refine_export.report.report_data import Shortfall
from refine_export.runners.base import Arrays, Runner
from refine_export.runners.latency import measure_in_turn
from refine_export.runners.runtime_names import REQUIRED_NAMES, RequiredRuntime
from refine_export.signature import parse_size
from refine_export.support.environment import COMPARERS, machine, versions
from refine_export.support.files import make_folder, same_file, write_text
from refine_export.support.imports import import_if_installed
from refine_export.support.progress import Progress
from refine_export.support.text import json_text, listed, size_text
from refine_export.validate.comparison import Status, overall

if TYPE_CHECKING:  # torch is optional
    from torch import nn


@takes_options(BenchOptions)
def bench(
    files: AnyPath | Sequence[AnyPath],
    *,
    checkpoint: AnyPath | None = None,
    refine: bool | None = None,
    frames: tuple[AnyPath, AnyPath] | None = None,
    output: AnyPath | None = None,
    recipe: AnyRecipe = None,
    progress: Progress | None = None,
    **options: Any,
) -> Benchmarks:
    """Measure latency, throughput and memory of files and of torch, in turn, on real frames.

    Args:
        files: ONNX files of any tool, and engines of one of the graphs; paths or earlier results.
        checkpoint: the weights of torch, and of the flows that a refinement is fed. Defaults to released RIFE 4.0.
        refine: use the refinement of a RIFE 4.0 file that has one.
        frames: two pictures. Defaults to the sample.
        output: folder for bench.json and bench.html. Defaults to none.
        recipe: Recipe object or path, for weights and frames; explicit options override it.
        progress: receives each batch and size.
        options: fields of `BenchOptions`.

    Raises:
        RequestError: `given-twice`, `size-not-taken`, `wrong-size`, `different-sizes`, `needs-feeds`; a file, frames or
            options cannot be used.
        UnavailableError: the sample frames are not there.
    """
    started = time.perf_counter()
    chosen = options_from_keywords(BenchOptions, options)
    inputs = job_inputs(recipe, progress, checkpoint, frames, refine=refine)
    if checkpoint is not None and chosen.torch != ("none",):
        with suppress(UnavailableError):  # without torch, files are measured all the same
            _ = inputs.checkpoint
    known = [bench_file(path) for path in _each_once(paths_of(files))]
    folder = None if output is None else path_of(output)
    sizes = [parse_size(size) for size in chosen.sizes]
    points = points_of(known, sizes, chosen.batches, sizes[0]) if sizes else []
    if folder is not None:
        make_folder(folder)
    # Frames are drawn when all that they are not needed for is checked.
    points = points or points_of(known, (), chosen.batches, inputs.sources.first.pair.size)
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "not known"
    measured = _Bench(inputs, chosen)
    for point in points:
        measured.measure(point, known)
    result = measured.result(folder, started, load)
    if folder is not None:
        write_text(folder / "bench.html", _page(result))
        write_text(folder / "bench.json", json_text(result.to_dict()))
    return result


class _Bench:
    """The measurements of one job so far."""

    def __init__(self, inputs: JobInputs, options: BenchOptions) -> None:
        self._inputs, self._options = inputs, options
        self._measurements: list[Measurement] = []
        self._states: list[PointState] = []
        self._notes: dict[str, None] = {}
        self._shortfalls: dict[tuple[str, str], Shortfall] = {}
        """Shortfalls by what they are about, and why: what is missing is so at every size."""
        self._ran: set[RequiredRuntime] = set()
        self._networks: dict[Path, nn.Module | str] = {}
        """Torch's network of each file's graph, or why there is none."""

    def measure(self, point: Sizes, files: Sequence[BenchFile]) -> None:
        """Measure all files, and torch, at one batch and size."""
        progress, size = self._inputs.progress, size_text(point)
        with ExitStack() as stack:
            with progress.step(f"load, and run once, at {size}") as say:
                ready = [*self._ready(point, files, stack)]
                say(listed(one.subject.name for one in ready) or "nothing")
            if not ready:
                return
            with progress.step(f"measure {self._options.rounds} rounds at {size}"):
                before = self._gpu_state(ready)
                seconds = measure_in_turn({one: one.call for one in ready}, self._options.rounds)
                after = self._gpu_state(ready)
        if before is not None and after is not None:
            self._states.append(PointState(batch=point[0], size=point[1:], before=before, after=after))
        memory = self._memory(ready, size) if self._options.memory else {}
        self._measurements += measurements_from_seconds(point, seconds, memory)

    def result(self, folder: Path | None, started: float, load: str) -> Benchmarks:
        """Return all figures, and the verdict."""
        shortfalls = [*self._shortfalls.values()]
        named = {one.runtime for one in shortfalls}
        for runtime in dict.fromkeys(self._options.require):
            if runtime not in self._ran | named:
                reason = "it is required, and nothing was measured in it"
                what = REQUIRED_NAMES[runtime]
                shortfalls.append(Shortfall(what=what, status="not compared", reason=reason, runtime=runtime))
        measured: Status = "passed" if self._measurements else "not compared"
        torch = import_if_installed("torch")
        threads = {} if torch is None else {"threads of torch": str(torch.get_num_threads())}
        return Benchmarks(
            status=overall([measured, *(one.status for one in shortfalls if one.counts)]),
            folder=folder,
            measurements=tuple(self._measurements),
            gpu_states=tuple(self._states),
            shortfalls=tuple(shortfalls),
            notes=(*self._notes, *notes_on_noise(self._measurements)),
            rounds=self._options.rounds,
            frames=self._inputs.sources.first.pair.name,
            seconds=time.perf_counter() - started,
            environment=versions(COMPARERS) | machine() | threads | {"load before": load},
        )

    def _ready(self, point: Sizes, files: Sequence[BenchFile], stack: ExitStack) -> Iterator[Ready]:
        """Open every subject, feed it and run it once; those that cannot be are noted."""
        feeds: dict[object, Arrays] = {}
        works = {file.path: file.work_at(point) for file in files}
        for subject, file in self._subjects(files):
            artifact = file.artifact
            key = (artifact.graph, artifact.scale, artifact.takes_timestep) if artifact else file.path
            if key not in feeds:
                network = self._network_for_feeds(file)
                feeds[key] = feeds_at(file, point, self._inputs.sources.first, network)
            same = (works[other.path] for other in files if other.graph == file.graph and other.artifact is not None)
            work = works[file.path] or next(filter(None, same), None)
            try:
                runner = stack.enter_context(self._opened(subject))
                one = ready_subject(subject, runner, feeds[key], work)
            except UnavailableError as error:
                self._lacks(subject, str(error))
                continue
            except RequestError as error:
                short = Shortfall(what=subject.name, status="failed", reason=str(error))
                self._shortfalls[short.what, short.reason] = short
                continue
            self._ran.add(_runtime_of(subject))
            self._note_conditions(subject, runner)
            yield one

    def _subjects(self, files: Sequence[BenchFile]) -> Iterator[tuple[Subject, BenchFile]]:
        """Yield torch for each graph, then every file in each of its runtimes."""
        device, modes = self._options.device, [one for one in self._options.torch if one != "none"]
        weights = {k: v for k, v in dataclasses.asdict(self._inputs.recipe.checkpoint).items() if v is not None}
        graphs = {(file.graph, file.artifact.scale): file for file in reversed(files) if file.artifact is not None}
        for (graph, scale), file in reversed(graphs.items()):
            for mode in modes:
                subject = Subject(
                    file="torch",
                    mode=mode,
                    graph=graph,
                    precision="fp32",
                    scale=scale,
                    device=device,
                    checkpoint=weights,
                )
                network = self._network_or_reason(file)
                if isinstance(network, str):
                    self._lacks(subject, network)
                else:
                    yield subject, file
        engine = part_of(vars(self._options), EngineRunOptions)
        names = Counter(file.path.name for file in files)
        for file in files:
            name = file.path.name
            runtimes: Sequence[Mode] = self._options.runtimes or ("onnxruntime-cpu",)
            for runtime in ("tensorrt",) if file.model is None else runtimes:
                yield (
                    Subject(
                        file=name if names[name] == 1 else str(file.path),
                        mode=runtime,
                        graph=file.graph,
                        precision=file.precision,
                        path=str(file.path),
                        engine=engine,
                    ),
                    file,
                )

    def _opened(self, subject: Subject) -> Runner:
        """Open a subject; an engine for RTX GPUs needs one."""
        if subject.mode == "tensorrt":
            path = Path(str(subject.path))
            if reason := why_not_executable(manifest_of(path, engine_bytes(path))):
                raise UnavailableError(reason, code="no-rtx-gpu")
        return open_subject(subject, self._inputs.network)

    def _network_or_reason(self, file: BenchFile) -> nn.Module | str:
        """Return torch's network of a file's graph, or why there is none."""
        if file.path not in self._networks:
            artifact = file.artifact
            assert artifact is not None  # only graphs are measured in torch
            try:
                network = self._inputs.checkpoint.network
                self._inputs.check_graph(file.path, artifact)
                if artifact.checkpoint_sha256 not in (None, self._inputs.checkpoint.sha256):
                    self._note(
                        f"{file.path.name} was made from {artifact.checkpoint}, and torch has "
                        f"{self._inputs.checkpoint.source}; give the file's own weights with --checkpoint"
                    )
                if artifact.network not in (None, network):
                    self._networks[file.path] = (
                        f"{file.path.name} was made of {artifact.network}, and the weights are of {network}; give "
                        "those of the file with --checkpoint"
                    )
                else:
                    self._networks[file.path] = self._inputs.network(artifact.scale)
            except (UnavailableError, RequestError) as error:
                self._networks[file.path] = str(error)
        return self._networks[file.path]

    def _network_for_feeds(self, file: BenchFile) -> nn.Module | None:
        """Return what estimates the flows that a graph is fed; an interpolator takes none."""
        if file.artifact is None or file.graph == "interpolator":
            return None
        network = self._network_or_reason(file)
        if not isinstance(network, str):
            return network
        self._note(f"{file.path.name} was fed with frames, a drawn flow and noise: {network}")
        return None

    def _lacks(self, subject: Subject, reason: str) -> None:
        """Note what this machine cannot run; it counts where it was asked for."""
        runtime = _runtime_of(subject)
        asked = subject.mode in self._options.runtimes or runtime in self._options.require or subject.device != "cpu"
        self._shortfalls[subject.name, reason] = Shortfall(
            what=subject.name, status="not compared", reason=reason, counts=asked, runtime=runtime
        )

    def _note(self, text: str) -> None:
        """Keep a note once, in the order of the first."""
        self._notes.setdefault(text)

    def _note_conditions(self, subject: Subject, runner: Runner) -> None:
        if on_gpu(runner):
            self._note("On a GPU, inputs and outputs stay in its memory: copies from and to the host are not in.")
        if subject.precision in ("fp16", "bf16") and subject.mode == "onnxruntime-cpu":
            self._note(
                "ONNX Runtime computes 16-bit types in FP32 on a CPU, with a Cast around each node: the speed of these "
                "files there is not what a GPU makes of them."
            )
        if subject.mode == "half":
            self._note("half emulates FP16 on a CPU: its speed is not that of FP16.")

    def _gpu_state(self, ready: Sequence[Ready]) -> GpuState | None:
        device = next((one.runner.device.partition(" ")[0] for one in ready if on_gpu(one.runner)), None)
        if device is None:
            return None
        try:
            return gpu_state(device)
        except UnavailableError as error:
            self._note(f"Clocks and temperature of the GPU were not measured: {error}")
            return None

    def _memory(self, ready: Sequence[Ready], size: str) -> dict[Ready, Memory]:
        progress, found = self._inputs.progress, {}
        with progress.step(f"measure memory at {size}"):
            for number, one in enumerate(ready):
                progress.within("process", number, len(ready))
                try:
                    found[one] = measure_memory(one.subject, one.feeds)
                except RefineExportError as error:
                    self._note(f"The memory of {one.subject.name} at {size} was not measured: {error}")
        return found


def _each_once(paths: Sequence[Path]) -> Sequence[Path]:
    """Refuse a file that is given twice.

    Raises:
        RequestError: `given-twice`.
    """
    for number, path in enumerate(paths):
        if any(same_file(path, other) for other in paths[:number]):
            raise RequestError.about(path, "given-twice", "is given twice; expected each file once")
    return paths


def _runtime_of(subject: Subject) -> RequiredRuntime:
    """Return what `--require` calls a subject's runtime."""
    if subject.path is None:
        return "torch"
    if subject.mode == "tensorrt":
        return engine_details(read_engine_manifest(Path(subject.path)).details).key.library
    return "ort"


def _page(result: Benchmarks) -> str:
    devices = {f"{one.file} in {one.runtime}": f"{one.provider}, {one.device}" for one in result.measurements}
    facts = {
        "Frames": result.frames,
        "Rounds": f"{result.rounds}; {result.seconds:.1f} s with loading and warm-up",
        **devices,
        **result.environment,
    }
    return html_from_tables("Speed and memory", result.status, result.summary(), result.tables(), result.notes, facts)
