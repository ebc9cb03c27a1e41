"""Models for tests of the client: an echo, a slow one and one that never answers."""

from pathlib import Path

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 0
version_policy {{ all {{ }} }}
input [ {{ name: "x" data_type: {dtype} dims: [ -1, -1 ] }} ]
output [ {{ name: "y" data_type: {dtype} dims: [ -1, -1 ] }} ]
instance_group [ {{ count: {count} kind: KIND_CPU }} ]
parameters {{ key: "refine_export.precision" value {{ string_value: "fp16" }} }}
"""
MODEL = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            {body}
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y)]))
        return answers
"""
ECHO, SLOW = "y = x", "time.sleep(float(x[0, 0])); y = x"
SILENT = "return None"
BROKEN = "raise ValueError('no such thing')"


def add_model(
    repository: Path, name: str, body: str, *, version: int = 1, count: int = 1, dtype: str = "TYPE_FP32"
) -> None:
    """A model of the python backend with an input x and an output y, FP32 [any, any]."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL.format(body=body))
    (repository / name / "config.pbtxt").write_text(CONFIG.format(name=name, count=count, dtype=dtype))
