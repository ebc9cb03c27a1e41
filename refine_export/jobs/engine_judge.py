"""Judge engines against FP32 torch, on the feeds of the validation and over the whole profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.artifacts import Artifact
from refine_export.data.feeds import Feed, feeds_for, probe_for
from refine_export.engine.build_options import Fallback
from refine_export.engine.engine_run_options import EngineRunOptions
from refine_export.engine.engine_runner import TrtRunner
from refine_export.engine.fallbacks import Judge, Numbers
from refine_export.engine.profile_shapes import InputShapes
from refine_export.errors import RequestError
from refine_export.jobs.load_inputs import JobInputs
from refine_export.runners.pair_runner import pair_runner
from refine_export.signature import check_multiples
from refine_export.support.text import json_safe
from refine_export.validate.comparison import Candidate, Compared, compare_candidates
from refine_export.validate.reference import Reference

if TYPE_CHECKING:  # torch is optional
    from torch import nn


def judge_of(artifact: Artifact, shapes: Sequence[InputShapes], inputs: JobInputs) -> Judge:
    """Return the judge of one ONNX file's engines.

    An engine is compared at the smallest, best and largest shape of its profile, and on the probe.

    Args:
        artifact: the file; an engine has the limits of its file's precision.
        shapes: of the file's inputs, in the engine.
        inputs: the reference network, which is not made where an engine is reused, the frames and the options.
    """
    options, source = inputs.recipe.validate, inputs.sources.first
    artifact = inputs.check_graph(Path(artifact.file), artifact)
    signature = artifact.signature
    image = next((one for one in shapes if one.name == signature.inputs[0].name), shapes[0])  # a stack has its own name
    sizes = tuple(
        dict.fromkeys((shape[0], shape[2], shape[3]) for shape in (image.minimum, image.optimum, image.maximum))
    )
    for _, height, width in sizes:
        check_multiples((height, width), artifact.multiple_of)

    def feeds(reference: nn.Module) -> Iterator[Feed]:
        kinds, timesteps = options.flows, options.timesteps
        for batch, height, width in sizes:
            pair = source.at((height, width))
            yield from feeds_for(reference, signature, pair, kinds=kinds, timesteps=timesteps, batch=batch)
        batch, _, height, width = image.optimum
        yield from probe_for(reference, signature, (height, width), batch=batch)

    def compare(engine: bytes, fallback: Fallback) -> list[Numbers]:
        reference, precision = inputs.network(artifact.scale), "fp32" if fallback == "fp32" else artifact.precision
        built_here = EngineRunOptions(allow_host_code=True)
        with (
            Reference(reference, artifact.graph, dtype=options.reference) as torch,
            pair_runner(TrtRunner(engine, unchecked=True, options=built_here)) as runner,
        ):
            candidate = Candidate(
                file=artifact.file,
                limits=options.limits.of(artifact.graph, precision),
                precision=precision,
                runtime="tensorrt",
                runner=runner,
            )
            compared = compare_candidates(signature, torch, [candidate], feeds(reference))
            return [numbers for one in compared for numbers in _numbers(one)]

    return Judge(
        compare=compare,
        described={
            "limits": dataclasses.asdict(options.limits.of(artifact.graph, artifact.precision)),
            "limits_fp32": dataclasses.asdict(options.limits.of(artifact.graph, "fp32")),
            "reference": options.reference,
            "flows": list(options.flows),
            "timesteps": list(options.timesteps),
            "frames": list(source.pair.sha256),
            "checkpoint_sha256": inputs.checkpoint.sha256,
            "network": inputs.checkpoint.network,
        },
    )


def _numbers(compared: Compared) -> list[Numbers]:
    """Return how far an engine's outputs are off.

    Raises:
        RequestError: `not-comparable`; it gave no outputs that can be compared.
    """
    verdict = compared.verdict
    if not verdict.outputs or (verdict.status != "passed" and all(one.status == "passed" for one in verdict.outputs)):
        raise RequestError(f"{verdict.feed}: {'; '.join(verdict.reasons)}", code="not-comparable", feed=verdict.feed)
    return [
        Numbers(
            feed=verdict.feed,
            output=output.output,
            max_abs=json_safe(output.metrics.max_of_peak),
            psnr_db=output.metrics.psnr_db,
            reasons=output.reasons if output.status == "failed" else (),
        )
        for output in verdict.outputs
    ]
