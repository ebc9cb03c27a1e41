"""An ONNX file to a model in memory, or a refusal that says what the file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refine_export.errors import GraphError

if TYPE_CHECKING:
    import onnx

EXPECTED = "expected a binary ONNX model: check the path, or export it again"


def model_from_file(path: Path) -> onnx.ModelProto:
    """Load a model without its external data.

    Raises:
        GraphError: missing, a folder, empty, truncated or not ONNX.
    """
    import onnx

    if path.is_dir():
        raise GraphError(f"{path} is a directory; {EXPECTED}")
    if not path.exists():
        raise GraphError(f"{path} does not exist; {EXPECTED}")
    try:
        if path.stat().st_size == 0:
            raise GraphError(f"{path} is empty; {EXPECTED}")
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except GraphError:
        raise
    except Exception as error:  # protobuf's DecodeError (it ships no types), OSError
        raise GraphError(f"{path} is not ONNX, or truncated ({error}); {EXPECTED}") from error
    if not model.HasField("graph") or not model.opset_import:
        part = "opset" if model.HasField("graph") else "graph"
        raise GraphError(f"{path} is not ONNX, or truncated (it has no {part}); {EXPECTED}")
    return model
