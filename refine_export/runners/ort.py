"""ONNX Runtime, on the provider that was asked for or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refine_export.environment import gpu_name
from refine_export.errors import GraphError, RequestError, UnavailableError
from refine_export.optional import require
from refine_export.runners.base import Runner, TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refine_export.runners.base import Arrays

Provider = Literal["cpu", "cuda"]

_PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


class OrtRunner(Runner):
    """An ONNX file in ONNX Runtime.

    Asked for CUDA where it can't be loaded, ONNX Runtime falls back to the CPU with no more than a log line; here
    that is an error, so that no CPU result is ever taken for a GPU's.

    Args:
        model: path of the file (external data lies beside it), or the serialised model.
        provider: `cpu` or `cuda`.
        optimize: let ONNX Runtime rewrite the graph; without, it computes node by node what the file says.

    Raises:
        UnavailableError: ONNX Runtime or the provider is missing.
        GraphError: ONNX Runtime refuses the file.
    """

    backend = "onnxruntime"

    def __init__(self, model: Path | bytes, *, provider: Provider = "cpu", optimize: bool = True) -> None:
        ort = require("onnxruntime", extra="ort")
        wanted = _PROVIDERS[provider]
        if wanted not in ort.get_available_providers():
            raise UnavailableError(
                f"onnxruntime {ort.__version__} was built without {wanted}; install onnxruntime-gpu for CUDA"
            )
        options = ort.SessionOptions()
        options.log_severity_level = 4  # errors come as exceptions, the fallback is checked below
        options.enable_mem_pattern = False  # a pattern keeps a second copy of the activations
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # TF32 is on by default: an FP32 comparison on a GPU would not be one.
        providers = [wanted] if provider == "cpu" else [(wanted, {"use_tf32": "0"}), _PROVIDERS["cpu"]]
        source = str(model) if isinstance(model, Path) else model
        try:
            with quiet_loading(ort):
                self._session = ort.InferenceSession(source, options, providers=providers)
        except Exception as error:  # onnxruntime's own exceptions share no base class but this one
            name = model if isinstance(model, Path) else "the model"
            raise GraphError(f"onnxruntime {ort.__version__} can't load {name}: {error}") from error
        loaded = self._session.get_providers()
        if loaded[0] != wanted:
            raise UnavailableError(
                f"asked for {wanted}, onnxruntime {ort.__version__} loaded {', '.join(loaded)}: no CUDA GPU, or a "
                "CUDA or cuDNN library is missing"
            )
        self._run_options = ort.RunOptions()
        if provider == "cpu":
            # Activations of 1088 x 1920 are over 1 GiB: they go back to the system after each run.
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.version = ort.__version__
        self.provider = loaded[0]
        self.device = "cpu" if provider == "cpu" else f"cuda:0 ({gpu_name() or 'name not known'})"
        self.inputs = tuple(_info(value) for value in self._session.get_inputs())
        self.outputs = tuple(_info(value) for value in self._session.get_outputs())

    def _run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        names = [info.name for info in self.outputs]
        try:
            values = self._session.run(names, dict(feeds), self._run_options)
        except Exception as error:  # as above
            raise RequestError(f"onnxruntime {self.version} failed while it ran the graph: {error}") from error
        return dict(zip(names, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        del self._session


@contextmanager
def quiet_loading(ort: Any) -> Iterator[None]:
    """Without the lines that ONNX Runtime itself prints when a provider's library is missing."""
    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)  # ONNX Runtime's own default; it can't be asked for the one before


def _info(value: Any) -> TensorInfo:
    shape = tuple(dim if isinstance(dim, int | str) else f"{value.name}?{k}" for k, dim in enumerate(value.shape))
    return TensorInfo(name=value.name, dtype=_DTYPES.get(value.type, value.type), shape=shape)
