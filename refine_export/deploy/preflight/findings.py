"""The rules of the pre-flight: what each finding means to a Triton server, and what to do about it.

There is no rule for what Triton or its backends refuse with a clear message: wrong fields, reshapes, reserved instance
kinds, broken flows between the steps of an ensemble, and names, types and dims that are not the artifact's. The rules
are about what they accept and then do wrong, what makes them hang or crash, what they report unclearly, and what they
cannot know: hashes, engines and releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from refine_export.deploy.triton.releases import FIND_OUT

Severity = Literal["error", "warning"]

WARNINGS: Final = (
    "version-empty",
    "backend-unknown",
    "python-numpy",
    "response-cache",
    "not-served",
    "plan-unknown",
    "plan-release-unknown",
)
"""Rules whose findings are warnings; those of all others are errors."""

RULES: Final[dict[str, tuple[str, str]]] = {
    "no-models": (
        "Triton takes each folder of a repository as a model; without one it starts, and serves nothing.",
        "Give the folder that holds the folders of the models.",
    ),
    "unreadable": (
        "A file that cannot be read here cannot be loaded there, or makes the server wait for ever.",
        "Put a regular, readable file of a usual size there.",
    ),
    "symlink": (
        "A link that leads out of the repository is broken as soon as the repository is copied to a server.",
        "Put the file itself into the repository.",
    ),
    "config-missing": (
        "The server then guesses the config, or refuses the model where that is switched off; nothing can be checked.",
        "Write one: refine-export deploy triton; or save the server's own: GET /v2/models/NAME/config.",
    ),
    "config-parse": (
        "The server refuses the whole model, and the reason is only in its log.",
        "Correct the line; the schema is model_config.proto of triton-inference-server/common.",
    ),
    "version-name": (
        "Versions are folders with plain numbers from 1 on; Triton ignores all others with only a line in the log.",
        "Rename it to a number, such as 1.",
    ),
    "version-missing": (
        "A version without a folder is only a line in the log; a model or an ensemble without any does not load.",
        "Add the folder of the version, or correct version_policy.",
    ),
    "version-empty": (
        "git and object stores keep no empty folders: the copy has no version, and the ensemble does not load.",
        "Put any file into it.",
    ),
    "backend": (
        "Triton accepts a platform of another backend, and clients read from it what computes the model.",
        'Write one of them: backend: "python", or platform: "onnxruntime_onnx", "tensorrt_plan" or "ensemble".',
    ),
    "backend-unknown": (
        "Its model files cannot be checked here.",
        "Check it on a server; this tool knows onnxruntime, tensorrt, python and ensembles.",
    ),
    "model-file": (
        "A version without its model file does not load.",
        "Put the file there, or correct default_model_filename or cc_model_filenames.",
    ),
    "python-without-model": (
        "Loading a python model without model.py never returns; with model control `none` no port ever opens.",
        "Put model.py into each version's folder.",
    ),
    "python-model": (
        "The model loads, and its first request fails.",
        "model.py defines class TritonPythonModel with execute(self, requests).",
    ),
    "python-returns-nothing": (
        "A request whose execute returns no response waits for ever: the server has no timeout of its own.",
        "Return a list with one InferenceResponse for each request.",
    ),
    "python-numpy": (
        "Stubs built with an old pybind11 (seen in Triton 24.10) read zeros and return empty outputs, status 200, with "
        "NumPy 2 in the environment they run in.",
        "Give it an environment with 'numpy<2' (EXECUTION_ENV_PATH), and check numpy.__version__ in initialize.",
    ),
    "tensors": (
        "Triton accepts two tensors of one name, and clients cannot tell them apart.",
        "Give each input and each output a name of its own.",
    ),
    "dynamic-batching": (
        "With max_batch_size 0 nothing is ever batched, silently.",
        "Set max_batch_size, or leave dynamic_batching out.",
    ),
    "instance-group": (
        "Triton accepts a count below 0.",
        "Write a count of 1 or more.",
    ),
    "response-cache": (
        "Frames hardly ever repeat: each costs a hash and memory, and a cached answer hides a changed model.",
        "Leave response_cache out.",
    ),
    "not-served": (
        "Clients of this tool send one request and expect one answer.",
        "Leave sequence_batching and decoupled out for models that they are to use.",
    ),
    "accelerator-fp16": (
        "TensorRT then computes sampling coordinates in FP16 too: 0.23 px off at 1920 px, silently.",
        "Leave precision_mode out, and serve a file from refine-export lower.",
    ),
    "warmup-batch": (
        "batch_size is 0 where it is left out, and a sample of 0 is skipped silently; one above max_batch_size ended "
        "the server with a segmentation fault (seen in Triton 24.10).",
        "Write batch_size: 1, also with max_batch_size: 0.",
    ),
    "warmup-tensor": (
        "A warm-up that fails when it is computed can bring the whole server down.",
        "Write each input's data_type, and dims in numbers that fit the model.",
    ),
    "onnx-file": (
        "ONNX Runtime does not load it.",
        "Export it again, or copy it again with the files of its weights beside it.",
    ),
    "plan-file": (
        "TensorRT does not load it, and gives no reason.",
        "Build it again, or copy it again: refine-export build FILE.onnx -o model.plan",
    ),
    "plan-manifest": (
        "What the engine was built for is not known, or the manifest is of another file.",
        "Copy the manifest that the build wrote beside it (NAME.plan.json), or build it again.",
    ),
    "plan-unknown": (
        "An engine itself holds only its TensorRT version: its tensors, profiles and GPU cannot be checked.",
        "Build it with refine-export build, which writes a manifest beside it.",
    ),
    "plan-release": (
        "An engine runs on the TensorRT version that built it, unless it was built to be compatible with newer ones.",
        "Take the release of Triton that fits, or build the engine with the TensorRT of that release.",
    ),
    "plan-release-unknown": (
        "The release's TensorRT is not known here to the last number, so the engine may not load there.",
        f"Find it out: {FIND_OUT}",
    ),
    "plan-gpu": (
        "An engine runs on the kind of GPU it was built on; cc_model_filenames gives each compute capability its own.",
        "Correct the key, or build the engine on such a GPU.",
    ),
    "plan-profile": (
        "The server refuses it, or requests fail at run time: the engine has no such profile, or none of that size.",
        "Keep to the profiles that the engine was built with, or build it with others.",
    ),
    "manifest": (
        "The file is not the one that was made and proven.",
        "Copy both again, or make them again.",
    ),
    "deployment": (
        "The repository is not the one that was made: a file was changed, lost or only half copied.",
        "Make it again: refine-export deploy triton --force; or copy it again.",
    ),
    "parameters": (
        "Clients read from these which model they talk to, and would learn of another one.",
        "Make the config again, or correct the parameter.",
    ),
    "ensemble-type": (
        "Triton accepts [4] on one side and [N, 4] on the other where only one has a batch, and requests then fail.",
        "Give both models the same dims and max_batch_size.",
    ),
}
"""Rule -> what a server does, what to do. ONNX files that TensorRT parses have to pass the lint too."""


@dataclass(frozen=True, kw_only=True)
class RepositoryFinding:
    """One thing that is wrong with a model repository."""

    rule: str
    """Stable id, a key of `RULES` or of `lint_texts.RULES`."""
    severity: Severity
    model: str
    """Name of the model's folder; "" for the repository."""
    where: str
    """File and field, such as `config.pbtxt: input 'img0'`."""
    message: str
    why: str
    fix: str


def finding(rule: str, model: str, where: str, message: str) -> RepositoryFinding:
    """Return a finding with the texts of its rule."""
    why, fix = RULES[rule]
    severity: Severity = "warning" if rule in WARNINGS else "error"
    return RepositoryFinding(rule=rule, severity=severity, model=model, where=where, message=message, why=why, fix=fix)
