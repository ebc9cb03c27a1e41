"""New weights into an engine that is built: a checkpoint of the same architecture, without a rebuild.

The result is a plan like any other, and is to be validated like one. Checked for TensorRT 10.12 to 11.4 (the bindings'
sources; `SerializationFlag.INCLUDE_REFIT` is there from 10.14 on). NVIDIA says that engines with the flag REFIT may
give wrong numbers on 11.3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Log, content_of, load, required
from refine_export.errors import GraphError, RequestError, UnavailableError

if TYPE_CHECKING:
    import tensorrt as trt


def refit_plan(plan: bytes, onnx: bytes, log: Log, *, path: Path | None = None) -> bytes:
    """The plan with the weights of an ONNX file, which is lowered as the one was that it was built from.

    A plan that was built with `strip_weights` takes back the very weights that it was built with and no others: with
    others, TensorRT computes nonsense and says nothing. The caller compares the files' hashes before.

    Args:
        plan: of an engine that was built with `refittable` or `strip_weights`, by this TensorRT on this GPU.
        onnx: the file.
        log: the process's own.
        path: the ONNX file's, where it has external data.

    Raises:
        RequestError: the engine takes no new weights.
        GraphError: the weights do not fit; the message has all names that the refitter gives.
        UnavailableError: TensorRT or a GPU is missing, or a call failed; with TensorRT's words.
    """
    module = load()
    runtime = _runtime(module, log)
    engine = required(runtime.deserialize_cuda_engine(plan), "load the plan", log)
    if not engine.refittable:
        raise RequestError(
            "the engine takes no new weights; expected one that was built with refittable = true: build it anew from "
            "the new ONNX file"
        )
    try:
        refitter = module.Refitter(engine, log.logger)
    except TypeError:  # the bindings' way to say null
        refitter = None
    refitter = required(refitter, "refit the engine", log)
    _set_weights(module, refitter, onnx, log, path)
    required(refitter.refit_cuda_engine() or None, "put the new weights into the engine", log)
    return _serialized(module, engine, log)


def _runtime(module: Any, log: Log) -> trt.Runtime:
    try:
        runtime: trt.Runtime | None = module.Runtime(log.logger)
    except TypeError:  # as above
        runtime = None
    return required(runtime, "start its runtime: is a GPU there, and its driver?", log)


def _set_weights(module: Any, refitter: trt.Refitter, onnx: bytes, log: Log, path: Path | None) -> None:
    """Hand all weights to the refitter; `refit_from_bytes(model, path)`, `get_missing_weights`: 10.12 to 11.4."""
    parser = module.OnnxParserRefitter(refitter, log.logger)
    if not parser.refit_from_bytes(onnx, None if path is None else str(path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        said = "".join(f"\n  {error.node_name()}: {' '.join(error.desc().split())}" for error in errors)
        raise GraphError(
            f"the weights of {path or 'the ONNX file'} do not fit the engine, {len(errors)} errors; expected a file of "
            f"the same architecture, lowered with the same options and rung{said or log.last_errors()}"
        )
    if missing := refitter.get_missing_weights():
        raise GraphError(
            f"{path or 'the ONNX file'} lacks {len(missing)} weights of the engine: {', '.join(missing)}; expected a "
            "file of the same architecture, lowered with the same options and rung"
        )


def _serialized(module: Any, engine: trt.ICudaEngine, log: Log) -> bytes:
    """With its weights, and refittable as before where there is a flag for that (10.14 on)."""
    config = engine.create_serialization_config()
    config.clear_flag(module.SerializationFlag.EXCLUDE_WEIGHTS)
    keep = module.SerializationFlag.__members__.get("INCLUDE_REFIT")
    if keep is not None and not config.set_flag(keep):
        raise UnavailableError(f"TensorRT can't keep the engine refittable{log.last_errors()}")
    return content_of(required(engine.serialize_with_config(config), "serialize the engine", log))
