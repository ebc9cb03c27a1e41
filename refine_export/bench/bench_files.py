"""Files to measure: one of our graphs, an engine, or an ONNX file of another tool; with the shapes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from refine_export.artifacts import Artifact, Sizes, artifact_from_model
from refine_export.engine.engine_manifest import artifact_from_engine, check_version, meant_as_engine
from refine_export.errors import GraphError, RequestError
from refine_export.graph.cost import multiply_adds
from refine_export.graph.model_file import ir_from_model, model_from_bytes, read_file
from refine_export.lower.calibration_feeds import inputs_of_model
from refine_export.signature import FilePrecision, TensorInfo, check_multiples, padded_size
from refine_export.support.text import size_text

FOREIGN: Final = "other"
"""Name, in place of a graph, of files whose inputs are not those of one of the graphs."""
FOREIGN_PADDING: Final = 64
"""Frames for files that state no padding are padded to this; most RIFE networks take multiples of 32 or 64."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Arithmetic and least traffic of one run."""

    multiply_adds: int
    """Those of convolutions and matrix products."""
    least_bytes: int
    """Bytes of inputs, outputs and constants: each has to be moved once."""


@dataclass(frozen=True, kw_only=True)
class BenchFile:
    """A file to measure."""

    path: Path
    artifact: Artifact | None
    """None for an ONNX file of another tool that is not one of the graphs."""
    model: onnx.ModelProto | None
    """The ONNX model, without external data; None for an engine."""

    @property
    def graph(self) -> str:
        """The graph, or `FOREIGN`."""
        return FOREIGN if self.artifact is None else self.artifact.graph

    @property
    def multiple_of(self) -> int:
        """Height and width of its frames are multiples of this, as far as is known."""
        return FOREIGN_PADDING if self.artifact is None else self.artifact.multiple_of

    @property
    def precision(self) -> FilePrecision | None:
        """Type of an ONNX file or engine of one of the graphs."""
        return None if self.artifact is None else self.artifact.precision

    @property
    def fixed(self) -> tuple[int | None, int | None, int | None]:
        """Batch, height and width; None where the file takes any."""
        if self.artifact is not None:
            return self.artifact.fixed
        shapes = [info.shape for info in self._declared() if len(info.shape) == 4]
        batch, _, height, width = shapes[0] if shapes else (None, None, None, None)
        return tuple(side if isinstance(side, int) else None for side in (batch, height, width))  # type: ignore[return-value]

    def closest(self, size: tuple[int, int]) -> Sizes:
        """Return the batch and size to measure at by default."""
        if self.artifact is not None:
            return self.artifact.closest_sizes(size)
        padded = padded_size(*size, self.multiple_of)
        batch, height, width = self.fixed
        return batch or 1, height or padded[0], width or padded[1]

    def check(self, sizes: Sizes) -> None:
        """Refuse a batch, height and width that the file does not take.

        Raises:
            RequestError: `size-not-taken`, or `wrong-size` for one that is not a multiple of the network's padding.
        """
        if self.artifact is not None:
            check_multiples(sizes[1:], self.artifact.multiple_of)
            taken, takes = self.artifact.accepts(sizes), self.artifact.sizes
            if self.artifact.profile is not None:
                low, _, high = self.artifact.profile
                takes = " to ".join(dict.fromkeys((size_text(low), size_text(high)))) + " (batch, height, width)"
        else:
            taken = all(fixed in (None, one) for fixed, one in zip(self.fixed, sizes, strict=True))
            takes = size_text("any" if one is None else one for one in self.fixed) + " (batch, height, width)"
        if not taken:
            problem = f"takes {takes}, and is to be measured at {size_text(sizes)}; leave out --size and --batch for "
            problem += "the file's own, or make a file for this one"
            raise RequestError.about(self.path, "size-not-taken", problem, sizes=sizes)

    def inputs_at(self, sizes: Sizes) -> list[TensorInfo]:
        """Return the inputs with their shapes in numbers; FP32 for our graphs."""
        if self.artifact is not None:
            specs = self.artifact.signature.inputs
            return [TensorInfo(name=one.name, dtype="float32", shape=one.shape_at(*sizes)) for one in specs]
        batch, *sides = sizes
        free = {0: batch} | dict(zip((2, 3), sides, strict=True))
        return [
            TensorInfo(
                name=info.name,
                dtype=info.dtype,
                shape=tuple(
                    dim if isinstance(dim, int) else free.get(axis, dim) if len(info.shape) == 4 or axis == 0 else dim
                    for axis, dim in enumerate(info.shape)
                ),
            )
            for info in self._declared()
        ]

    def _declared(self) -> list[TensorInfo]:
        assert self.model is not None  # an engine is one of our graphs
        return inputs_of_model(ir_from_model(self.model, self.path))

    def work_at(self, sizes: Sizes) -> Work | None:
        """Count the work of one run; None for an engine, and where the shape of a convolution cannot be inferred."""
        if self.model is None:
            return None
        shapes = {info.name: info.shape for info in self.inputs_at(sizes)}
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        model.graph.ClearField("value_info")  # shapes of other sizes, or names that nothing is known of
        for value in model.graph.input:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
                if isinstance(size, int):
                    dim.dim_value = size
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True)).graph
        except Exception:  # onnx and onnx_ir raise errors of several kinds on files of other tools
            return None
        counts = multiply_adds(inferred, {})
        if not counts or 0 in counts.values():
            return None
        moved = [*inferred.inputs, *inferred.outputs, *inferred.initializers.values()]
        sized = [
            (math.prod(value.shape.numpy()), value.dtype.itemsize)
            for value in moved
            if value.dtype is not None and value.shape is not None and value.shape.is_static()
        ]
        return Work(multiply_adds=sum(counts.values()), least_bytes=int(sum(count * bytes_ for count, bytes_ in sized)))


def bench_file(path: Path) -> BenchFile:
    """Recognise a file to measure.

    Raises:
        EngineError: an engine that is not one of the graphs, or for another version of TensorRT.
        GraphError: not an ONNX file.
    """
    if meant_as_engine(path):
        artifact = artifact_from_engine(path)
        check_version(path)
        return BenchFile(path=path, artifact=artifact, model=None)
    content = read_file(path)
    model = model_from_bytes(content, path)
    try:
        return BenchFile(path=path, artifact=artifact_from_model(model, content, path), model=model)
    except GraphError as error:
        if error.code != "unknown-graph":
            raise
        return BenchFile(path=path, artifact=None, model=model)


def points_of(
    files: Sequence[BenchFile], sizes: Sequence[tuple[int, int]], batches: Sequence[int], frames: tuple[int, int]
) -> list[Sizes]:
    """Return the batches, heights and widths to measure at.

    Args:
        files: what is measured; each has to take all of them.
        sizes: those that the user gave.
        batches: those that the user gave.
        frames: height and width of the frames, for files that take any.

    Raises:
        RequestError: as `BenchFile.check`; for files of different sizes, `different-sizes`.
    """
    static = [file for file in files if None not in file.fixed]
    static = static or [max(files, key=lambda file: file.multiple_of)]
    own = list(dict.fromkeys(file.closest(frames) for file in static))
    if len(own) > 1:
        given = ", ".join(f"{file.path.name} {size_text(file.closest(frames))}" for file in static)
        raise RequestError(
            f"the files have different sizes: {given} (batch, height, width); measure files of one size together",
            code="different-sizes",
        )
    points = [
        (batch, *size)
        for size in sizes or dict.fromkeys(one[1:] for one in own)
        for batch in batches or dict.fromkeys(one[0] for one in own)
    ]
    for file in files:
        for point in points:
            file.check(point)
    return points
