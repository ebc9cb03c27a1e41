"""Feeds and outputs of an ONNX Runtime session that lie in memory of the GPU.

What is relied on, for onnxruntime 1.22 to 1.31 (onnxruntime#28539, #19229, #32673 and the sources):

- A session with `user_compute_stream` puts all its kernels on that stream, and on no other. Before a run ONNX Runtime
  waits for nothing, so who fills an input has to be ordered before that stream.
- At the end of a run the host waits for the stream. That could be turned off, but nodes on the CPU then read and give
  back host memory that copies may still be reading; here it stays on.
- An output that is bound to memory of the wrong size is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from refine_export.errors import RequestError
from refine_export.runners.bound_shapes import check_sizes
from refine_export.signature import SIGNATURES, Signature, TensorInfo

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays

    Tensors = Mapping[str, torch.Tensor]
    Shapes = Mapping[str, tuple[int, ...]]

Place = tuple[str, int]
"""Kind and index of the device that memory is bound on, such as `("cuda", 0)`."""

_ONNX_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
    "bfloat16": 16,
}  # onnx.TensorProto.DataType


def run_arrays(
    ort: Any, session: Any, options: Any, place: Place, feeds: Arrays, outputs: Sequence[TensorInfo]
) -> dict[str, NDArray[Any]]:
    """Copy the feeds to the GPU, run, and copy the outputs into new arrays; the host waits for each."""
    names = [info.name for info in outputs]
    binding = session.io_binding()
    values = {name: ort.OrtValue.ortvalue_from_numpy(array, *place) for name, array in feeds.items()}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in names:
        binding.bind_output(name, *place)
    binding.synchronize_inputs()
    session.run_with_iobinding(binding, options)
    binding.synchronize_outputs()
    return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))


def run_tensors(session: Any, options: Any, place: Place, feeds: Tensors, outputs: Tensors) -> None:
    """Run from and into the memory of torch tensors; nothing is copied."""
    binding = session.io_binding()
    for bind, tensors in ((binding.bind_input, feeds), (binding.bind_output, outputs)):
        for name, tensor in tensors.items():
            bind(name, *place, _ONNX_TYPES[as_array(tensor).dtype], tuple(tensor.shape), tensor.data_ptr())
    session.run_with_iobinding(binding, options)


def output_shapes(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], shapes: Shapes) -> Shapes:
    """What shape each output has, from the shapes of the feeds.

    Raises:
        RequestError: frames that the graph does not take (one of the five), or a size that the file does not tell.
    """
    known: Shapes = {}
    if signature := _signature(inputs, outputs):
        check_sizes(signature, shapes)
        batch, _, height, width = shapes[signature.inputs[0].name]
        known = {spec.name: spec.shape_at(batch, height, width) for spec in signature.outputs}
    sizes: dict[int | str, int] = {}
    for info in inputs:
        sizes.update(zip(info.shape, shapes[info.name], strict=True))

    def shape_of(info: TensorInfo) -> tuple[int, ...]:
        if info.name in known:
            return known[info.name]
        if missing := [dim for dim in info.shape if isinstance(dim, str) and dim not in sizes]:
            raise RequestError(f"the file does not tell {missing} of the output {info.name} before it runs: use run")
        return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in info.shape)

    return {info.name: shape_of(info) for info in outputs}


def check_tensors(tensors: Tensors, device: torch.device) -> None:
    """Whether all lie on the device, without gaps.

    Raises:
        RequestError: they do not.
    """
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise RequestError(f"{name} is on {tensor.device}; expected {device}: use .to()")
        if not tensor.is_contiguous():
            raise RequestError(f"{name} has strides {tuple(tensor.stride())}; expected .contiguous()")


def check_outputs(given: Tensors, outputs: Sequence[TensorInfo], shapes: Shapes) -> None:
    """Whether the tensors that outputs go to have their names, types and shapes.

    Raises:
        RequestError: they do not.
    """
    if set(given) != set(shapes):
        raise RequestError(f"outputs are named {sorted(given)}; this graph has {sorted(shapes)}")
    for info in outputs:
        array = as_array(given[info.name])
        if (array.shape, array.dtype) != (shapes[info.name], info.dtype):
            raise RequestError(
                f"the output {info.name} is {array.dtype} {list(array.shape)}; expected {info.dtype} "
                f"{list(shapes[info.name])}"
            )


def as_array(tensor: torch.Tensor) -> Any:
    """What a check of feeds looks at, with the type's name as numpy has it."""
    return SimpleNamespace(shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def _signature(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Signature | None:
    names = {info.name for info in inputs}, {info.name for info in outputs}
    for signature in SIGNATURES.values():
        if (set(signature.input_names), set(signature.output_names)) == names:
            return signature
    return None
