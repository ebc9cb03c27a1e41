"""FP16 and BF16 graphs with every rounding, computed on the CPU: the reference for the results of a GPU.

ONNX Runtime by itself cannot serve as one: on a CPU it computes FP16 nodes in FP32 and leaves out the roundings between
them. This runner uses the emulation of `graph.fp16_emulation`, with ONNX Runtime's own optimizations off, so that no
rounding is lost.

    with HalfRunner(Path("refine_fp16.onnx")) as runner:
        residual = runner.run(feeds)["residual"]
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto

from refine_export.errors import GraphError
from refine_export.graph.fp16_emulation import emulation_from_half
from refine_export.graph.model_file import (
    bytes_from_model,
    ir_from_model,
    load_external_data,
    model_from_bytes,
    model_from_file,
)
from refine_export.graph.node_writer import NodeWriter
from refine_export.graph.operator_types import is_op
from refine_export.runners.base import Arrays
from refine_export.runners.onnxruntime import OrtRunner
from refine_export.support.imports import require

PARTS = 4
"""Parts in which the output channels of a transposed convolution are computed."""


class HalfRunner(OrtRunner):
    """An ONNX file with FP16 or BF16, strictly: each such value is rounded, sums and the rest are FP32.

    Inputs and outputs have the file's types; a BF16 array is numpy's with the type of `ml_dtypes`.

    Args:
        model: path of the file (external data lies beside it), or the serialized model.
        threads: that compute. Defaults to one for each core.

    Raises:
        UnavailableError: ONNX Runtime is missing.
        GraphError: the file cannot be read, is invalid, larger than 2 GiB or without a strict emulation.
    """

    backend = "half"

    def __init__(self, model: Path | bytes, *, threads: int | None = None) -> None:
        super().__init__(_emulation(model), optimize=False, threads=threads)
        self.provider = "strict FP16 emulation"

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        if all(info.dtype != "bfloat16" for info in (*self.inputs, *self.outputs)):
            return super()._run(feeds)
        ort = require("onnxruntime", extra="ort")
        values = {}
        for name, array in feeds.items():
            array = np.asarray(array, order="C")
            if str(array.dtype) == "bfloat16":  # ONNX Runtime takes its bits, but no array of that type
                make = ort.OrtValue.ortvalue_from_numpy_with_onnx_type
                values[name] = make(array.view("uint16"), TensorProto.BFLOAT16)
            else:
                values[name] = ort.OrtValue.ortvalue_from_numpy(array)
        names = [info.name for info in self.outputs]
        try:
            results = self._session.run_with_ort_values(names, values, self._run_options)
        except Exception as error:  # onnxruntime's own exceptions share no base class but this one
            raise self._failed(error) from error
        return {name: _array(value) for name, value in zip(names, results, strict=True)}


def _array(value: Any) -> NDArray[Any]:
    """Copy the content of an OrtValue on the CPU to a new array."""
    if value.element_type() != ir.DataType.BFLOAT16:
        return np.array(value.numpy())
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())  # numpy() refuses BF16
    return np.frombuffer(content, ir.DataType.BFLOAT16.numpy()).reshape(value.shape()).copy()


def _emulation(model: Path | bytes) -> bytes:
    """Make the serialized emulation of an ONNX file.

    Raises:
        GraphError: see `HalfRunner`.
    """
    name = model if isinstance(model, Path) else Path("the model")
    proto = model_from_file(model) if isinstance(model, Path) else model_from_bytes(model, name)
    if not load_external_data(proto, model.parent if isinstance(model, Path) else None):
        problem = "has more than 2 GiB of external data; expected less, since it is emulated in memory"
        raise GraphError.about(name, "onnx-too-large", problem)
    emulated = emulation_from_half(ir_from_model(proto, name))
    _split_transposed_convolutions(emulated.graph)
    return bytes_from_model(emulated)


def _split_transposed_convolutions(graph: ir.Graph) -> None:
    """Compute the output channels of each ConvTranspose in parts, in place; every sum stays as it was.

    ONNX Runtime keeps all products of a ConvTranspose before it adds them up: with 4x4 kernels and 16 channels at
    1088x1920 they take 510 MiB, more than all that is in use at that time.
    """
    writer = NodeWriter(graph, "split")
    for node in [node for node in graph if is_op(node, "ConvTranspose") and node.attributes.get_int("group", 1) == 1]:
        # The weight [in, out, h, w] and, if there is one, the bias [out].
        tensors = [ir.convenience.get_const_tensor(value) for value in node.inputs[1:] if value is not None]
        arrays = [tensor.numpy() for tensor in tensors if tensor is not None]
        if len(arrays) < len(tensors):
            continue
        count = min(PARTS, arrays[0].shape[1])
        cuts = [np.array_split(array, count, axis) for array, axis in zip(arrays, (1, 0), strict=False)]
        name, parts = node.outputs[0].name, []
        for part, made in enumerate(zip(*cuts, strict=True)):
            values = [writer.constant(one, f"{name}#{part}.{k}") for k, one in enumerate(made)]
            parts.append(writer.op("ConvTranspose", node.inputs[0], *values, **dict[str, Any](node.attributes)))
        writer.replace(node, writer.op("Concat", *parts, axis=1))
