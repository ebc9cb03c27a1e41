"""Serve an ONNX file with ONNX Runtime through Triton's python backend.

It lies beside `model.onnx` in a version's folder; as `backends/onnxruntime/model.py` it serves every ONNX model of a
server without a backend for them. The server's Python needs only numpy and onnxruntime.

It reads from config.pbtxt: inputs, outputs, max_batch_size, the kind of instance (a GPU needs CUDA's provider, without
fallback), and the parameter `intra_op_thread_count`, as in Triton's own backend for ONNX Runtime (README.md of
triton-inference-server/onnxruntime_backend).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

_TYPES = {
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_UINT8": "tensor(uint8)",
}
Feeds = dict[str, "np.ndarray[Any, Any]"]


class TritonPythonModel:
    """One instance of the model; Triton calls its methods from one thread."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the file.

        Raises:
            TritonModelException: numpy 2, a missing provider, or a config that does not fit the file; the model then
                does not load, and the server reports why.
        """
        if int(np.__version__.split(".")[0]) >= 2:
            # A stub built with pybind11 before 2.12 reads zeros from arrays of numpy 2, and sends empty ones.
            raise pb_utils.TritonModelException(
                f"numpy {np.__version__} is installed where the python backend runs; expected numpy 1, because the "
                "backend's stub may corrupt arrays of numpy 2 silently: pip install 'numpy<2' there"
            )
        config = json.loads(args["model_config"])
        self._largest_batch = int(config.get("max_batch_size", 0))
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = _session(path, config, args)
        self._inputs = [value.name for value in self._session.get_inputs()]
        wrong = [
            *_differences("input", config["input"], self._session.get_inputs(), self._largest_batch),
            *_differences("output", config["output"], self._session.get_outputs(), self._largest_batch),
        ]
        if wrong:
            raise pb_utils.TritonModelException(f"config.pbtxt does not fit {path}: {'; '.join(wrong)}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer each request; those of equal shapes are computed as one batch, where the model takes batches."""
        responses: list[Any] = [None] * len(requests)
        for numbers, feeds, names in self._groups(requests):
            try:
                answers = self._run(feeds, names)
            except Exception as error:  # onnxruntime's own exceptions share no base class but this one
                message = f"onnxruntime {ort.__version__} cannot compute this request: {error}"
                for number in numbers:
                    responses[number] = pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
            else:
                for number, answer in zip(numbers, answers, strict=True):
                    tensors = [pb_utils.Tensor(name, value) for name, value in answer.items()]
                    responses[number] = pb_utils.InferenceResponse(tensors)
        return responses

    def finalize(self) -> None:
        """Release the session."""
        del self._session

    def _groups(self, requests: Sequence[Any]) -> Iterator[tuple[list[int], list[Feeds], list[str]]]:
        """Yield indices of requests that can be one batch, the inputs of each, and the outputs that they ask for."""
        groups: dict[Any, tuple[list[int], list[Feeds], list[str]]] = {}
        rows: dict[Any, int] = {}
        for number, request in enumerate(requests):
            feeds = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            names = sorted(request.requested_output_names())
            if not self._largest_batch:
                yield [number], [feeds], names
                continue
            count = next(iter(feeds.values())).shape[0]
            key: Any = (*names, *(array.shape[1:] for array in feeds.values()))
            # Requests of one shape fill a batch; a full one goes before the next begins.
            if rows.get(key, 0) + count > self._largest_batch and key in groups:
                yield groups.pop(key)
                rows[key] = 0
            group = groups.setdefault(key, ([], [], names))
            group[0].append(number)
            group[1].append(feeds)
            rows[key] = rows.get(key, 0) + count
        yield from groups.values()

    def _run(self, feeds: list[Feeds], names: list[str]) -> list[Feeds]:
        """Run several requests as one batch, and return the outputs of each."""
        if len(feeds) == 1:
            return [dict(zip(names, self._session.run(names, feeds[0]), strict=True))]
        batch = {name: np.concatenate([one[name] for one in feeds]) for name in self._inputs}
        ends = np.cumsum([one[self._inputs[0]].shape[0] for one in feeds])[:-1]
        outputs = [np.split(array, ends) for array in self._session.run(names, batch)]
        return [dict(zip(names, parts, strict=True)) for parts in zip(*outputs, strict=True)]


def _session(path: Path, config: Mapping[str, Any], args: Mapping[str, str]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    threads = config.get("parameters", {}).get("intra_op_thread_count", {})
    options.intra_op_num_threads = int(threads.get("string_value", 0))
    providers: list[Any] = ["CPUExecutionProvider"]
    wanted = "CPUExecutionProvider"
    if args["model_instance_kind"] == "GPU":
        wanted = "CUDAExecutionProvider"
        providers.insert(0, (wanted, {"device_id": args["model_instance_device_id"], "use_tf32": "0"}))
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # as above
        raise pb_utils.TritonModelException(f"onnxruntime {ort.__version__} cannot load {path}: {error}") from error
    if session.get_providers()[0] != wanted:
        raise pb_utils.TritonModelException(
            f"instance_group asks for a GPU, and onnxruntime {ort.__version__} cannot load its CUDA provider here; "
            "install onnxruntime-gpu where the python backend runs, or write kind: KIND_CPU"
        )
    return session


def _differences(
    kind: str, configured: Sequence[Mapping[str, Any]], values: Sequence[Any], batch: int
) -> Iterator[str]:
    """Compare the inputs or outputs of the config with those of the file; the python backend itself does not."""
    known = {value.name: value for value in values}
    names = {str(tensor["name"]) for tensor in configured}
    if names != set(known):
        yield f"its {kind}s are {', '.join(sorted(names))}; the file has {', '.join(sorted(known))}"
        return
    for tensor in configured:
        value = known[tensor["name"]]
        if _TYPES.get(tensor["data_type"]) != value.type:
            yield f"{kind} {value.name} is {tensor['data_type']}; in the file it is {value.type}"
        dims = [-1] * bool(batch) + [int(dim) for dim in tensor["dims"]]
        shape = [dim if isinstance(dim, int) else -1 for dim in value.shape]
        if batch == 1 and shape[:1] == [1]:
            shape[0] = -1  # a fixed batch of 1 is enough for batches of at most 1
        fits = len(dims) == len(shape) and all(side in (-1, dim) for dim, side in zip(dims, shape, strict=True))
        if not fits:
            front = f", with max_batch_size {batch} in front" if batch else ""
            yield f"{kind} {value.name} has dims {tensor['dims']}{front}; in the file it is {value.shape}"
