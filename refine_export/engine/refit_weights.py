"""New weights for an engine that is built: a checkpoint of the same architecture, without a rebuild.

The result is an engine like any other, to be compared like one. Checked against the API documentation of TensorRT
10.12 to 11.4 (`SerializationFlag.INCLUDE_REFIT` exists from 10.14 on); not run. NVIDIA warns that engines with the flag
REFIT may give wrong numbers on 11.3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_export.engine.bindings import Log, constructed, required
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.support.text import counted

if TYPE_CHECKING:
    import tensorrt as trt


def refitted_engine(module: Any, content: bytes, onnx: bytes, log: Log, *, path: Path | None = None) -> bytes:
    """Return the engine with the weights of an ONNX file, lowered as the file was that it was built from.

    An engine that was built with `strip_weights` takes back its own weights and no others: with others, TensorRT
    computes nonsense and reports nothing. The caller compares the files' hashes before.

    Args:
        module: of the library.
        content: the engine, which was built with `refittable` or `strip_weights`, by this TensorRT on this GPU.
        onnx: the file.
        log: the process's own.
        path: the ONNX file's, where it has external data.

    Raises:
        RequestError: `not-refittable`.
        GraphError: `weights-mismatch`; the message has all names that the refitter gives.
        UnavailableError: `tensorrt-failed`.
    """
    runtime: Any = constructed(module.Runtime, "start its runtime: is a GPU there, and its driver?", log)
    engine = required(runtime.deserialize_cuda_engine(content), "load the engine", log)
    if not engine.refittable:
        raise RequestError(
            "the engine does not take new weights; expected one that was built with refittable = true: rebuild it "
            "from the new ONNX file",
            code="not-refittable",
        )
    refitter = constructed(lambda logger: module.Refitter(engine, logger), "refit the engine", log)
    _set_weights(module, refitter, onnx, log, path)
    required(refitter.refit_cuda_engine() or None, "put the new weights into the engine", log)
    return _serialized(module, engine, log)


def _set_weights(module: Any, refitter: trt.Refitter, onnx: bytes, log: Log, path: Path | None) -> None:
    parser = module.OnnxParserRefitter(refitter, log.logger)
    name, expected = path or "the ONNX file", "expected a file of the same architecture, lowered with the same options"
    if not parser.refit_from_bytes(onnx, None if path is None else str(path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"{error.node_name()}: {' '.join(error.desc().split())}" for error in errors]
        details = "".join(f"\n  {reason}" for reason in reasons) or log.last_errors()
        message = f"the weights of {name} do not fit the engine, {counted(len(errors), 'error')}; {expected}{details}"
        raise GraphError(message, code="weights-mismatch", errors=reasons)
    if missing := refitter.get_missing_weights():
        message = f"{name} lacks {counted(len(missing), 'weight')} of the engine: {', '.join(missing)}; {expected}"
        raise GraphError(message, code="weights-mismatch", missing=list(missing))


def _serialized(module: Any, engine: trt.ICudaEngine, log: Log) -> bytes:
    """The engine with its weights, and refittable as before where there is a flag for that (10.14 on)."""
    config = engine.create_serialization_config()
    config.clear_flag(module.SerializationFlag.EXCLUDE_WEIGHTS)
    keep = module.SerializationFlag.__members__.get("INCLUDE_REFIT")
    if keep is not None and not config.set_flag(keep):
        raise UnavailableError(f"TensorRT cannot keep the engine refittable{log.last_errors()}", code="tensorrt-failed")
    return bytes(required(engine.serialize_with_config(config), "serialize the engine", log))
