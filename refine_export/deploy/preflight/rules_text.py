"""The rules of the pre-flight: what each finding says. `why` is what a Triton server makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from refine_export.deploy.triton.releases import FIND_OUT

Severity = Literal["error", "warning"]

RULES: Final[dict[str, tuple[Severity, str, str]]] = {
    "no-models": (
        "error",
        "Triton takes each folder of a repository as a model; a server without one starts, and answers nothing.",
        "Give the folder that holds the folders of the models.",
    ),
    "unreadable": (
        "error",
        "What can't be read here can't be loaded there, or makes the server wait for ever.",
        "Put a regular, readable file of a usual size there.",
    ),
    "symlink": (
        "error",
        "A link that leads out of the repository is broken as soon as the repository is copied to a server.",
        "Put the file itself into the repository.",
    ),
    "config-missing": (
        "error",
        "The server then guesses the config, or refuses the model where that is switched off; nothing can be checked.",
        "Write one: refine-export deploy triton; or save what the server made of it: GET /v2/models/NAME/config.",
    ),
    "config-parse": (
        "error",
        "The server refuses the whole model, and the reason is in its log alone.",
        "Correct the line; the schema is model_config.proto of triton-inference-server/common.",
    ),
    "model-name": (
        "error",
        "A name in config.pbtxt that is not the folder's is refused.",
        "Leave name out, or write the folder's.",
    ),
    "version-name": (
        "error",
        "Triton takes folders with plain numbers from 1 on as versions, and ignores all others with no more than a log "
        "line.",
        "Rename it to a number, such as 1.",
    ),
    "version-missing": (
        "error",
        "A model without a version that its version_policy serves does not load; an ensemble needs a folder as well.",
        "Add the folder of the version, or correct version_policy.",
    ),
    "version-empty": (
        "warning",
        "git and object stores keep no empty folders: the copy has no version, and the ensemble does not load.",
        "Put any file into it.",
    ),
    "backend": (
        "error",
        "The server refuses a model whose backend or platform is missing, unknown, or a pair that does not fit.",
        'Write backend: "onnxruntime", "tensorrt" or "python", or platform: "ensemble".',
    ),
    "backend-unknown": (
        "warning",
        "Its model files can't be checked here.",
        "Check it on a server; this tool knows onnxruntime, tensorrt, python and ensembles.",
    ),
    "model-file": (
        "error",
        "A version without its model file does not load.",
        "Put the file there, or correct default_model_filename or cc_model_filenames.",
    ),
    "python-without-model": (
        "error",
        "Loading a python model without model.py never returns; with model control `none` no port ever opens.",
        "Put model.py into each version's folder.",
    ),
    "python-model": (
        "error",
        "The stub process fails when it imports or runs it.",
        "model.py defines class TritonPythonModel with execute(self, requests).",
    ),
    "python-returns-nothing": (
        "error",
        "A request whose execute returns no response waits for ever: the server has no timeout of its own.",
        "Return a list with one InferenceResponse for each request.",
    ),
    "python-numpy": (
        "warning",
        "Stubs that were built with an old pybind11 (seen in Triton 24.10) read zeros and answer nothing, status 200, "
        "with NumPy 2 in the environment they run in.",
        "Give it an environment with 'numpy<2' (EXECUTION_ENV_PATH), and check numpy.__version__ in initialize.",
    ),
    "tensors": (
        "error",
        "The server refuses a config whose inputs or outputs lack a name, a type or dimensions.",
        "Write name, data_type and dims of each; dims from 1, or -1 for any size.",
    ),
    "batch-size": (
        "error",
        "The server refuses it, or can't make the batches that it promises.",
        "Set max_batch_size to what the artifact takes: 0 where its first dimension is fixed.",
    ),
    "dynamic-batching": (
        "error",
        "Preferred sizes must be from 1 to max_batch_size; with max_batch_size 0 nothing is ever batched, silently.",
        "Set max_batch_size, or leave dynamic_batching out.",
    ),
    "instance-group": (
        "error",
        "The server refuses instances on devices that the backend or the kind can't have.",
        "KIND_GPU for plans; no gpus with KIND_CPU or KIND_MODEL; profiles for plans alone.",
    ),
    "response-cache": (
        "warning",
        "Frames hardly ever repeat: each costs a hash and memory, and a cached answer hides a changed model.",
        "Leave response_cache out.",
    ),
    "not-served": (
        "warning",
        "Clients of this tool send one request and expect one answer.",
        "Leave sequence_batching and decoupled out for models that they are to use.",
    ),
    "accelerator-fp16": (
        "error",
        "TensorRT then computes sampling coordinates in FP16 too: 0.23 px off at 1920 px, silently.",
        "Leave precision_mode out, and serve a file that refine-export lower made.",
    ),
    "warmup-batch": (
        "error",
        "batch_size is 0 where it is left out, and a sample of 0 is skipped silently: the first user waits instead.",
        "Write batch_size: 1, also with max_batch_size: 0.",
    ),
    "warmup-input": (
        "error",
        "A sample without one of the inputs, or with one that the model has not, stops the model from loading.",
        "Give each input of the model once.",
    ),
    "warmup-tensor": (
        "error",
        "A sample needs numbers for dims, and the model's type; a warm-up that fails can bring the whole server down.",
        "Write the input's data_type, and dims in numbers that fit the model.",
    ),
    "warmup-data": (
        "error",
        "A sample without data, or whose file is missing or of another size, stops the model from loading.",
        "Write zero_data: true or random_data: true, or put the file into the model's folder `warmup`.",
    ),
    "onnx-file": (
        "error",
        "ONNX Runtime does not load it.",
        "Export it again, or copy it again with the files of its weights beside it.",
    ),
    "tensor-names": (
        "error",
        "ONNX Runtime and TensorRT refuse it; the python backend does not, and its clients wait for outputs that never "
        "come.",
        "Name the artifact's own inputs and outputs.",
    ),
    "tensor-types": (
        "error",
        "The server refuses it, or answers bytes that clients read as another type.",
        "Write the artifact's own type.",
    ),
    "tensor-dims": (
        "error",
        "The server refuses it, or accepts requests that the artifact can't compute.",
        "Write the artifact's own dims, without the batch where max_batch_size is above 0.",
    ),
    "plan-file": (
        "error",
        "TensorRT does not load it, and says no more than that.",
        "Build it again, or copy it again: refine-export build FILE.onnx -o model.plan",
    ),
    "plan-manifest": (
        "error",
        "What the plan was built for is not known, or what is said of it is of another file.",
        "Copy the manifest that the build wrote beside it (NAME.plan.json), or build it again.",
    ),
    "plan-unknown": (
        "warning",
        "A plan says no more than its TensorRT version: its tensors, profiles and GPU can't be checked.",
        "Build it with refine-export build, which writes a manifest beside it.",
    ),
    "plan-release": (
        "error",
        "A plan runs on the TensorRT version that built it, unless it was built to be compatible with newer ones.",
        "Take the release of Triton that fits, or build the plan with the TensorRT of that release.",
    ),
    "plan-release-unknown": (
        "warning",
        "Whether the plan loads there can't be told: the release's TensorRT is not known here to the last number.",
        f"Find it out: {FIND_OUT}",
    ),
    "plan-gpu": (
        "error",
        "A plan runs on the kind of GPU it was built on; cc_model_filenames gives each compute capability its own.",
        "Correct the key, or build the plan on such a GPU.",
    ),
    "plan-profile": (
        "error",
        "The server refuses it, or requests fail at run time: the engine has no such profile, or none of that size.",
        "Keep to the profiles that the engine was built with, or build it with others.",
    ),
    "manifest": (
        "error",
        "The file is not the one that was made and proven.",
        "Copy both again, or make them again.",
    ),
    "deployment": (
        "error",
        "The repository is not the one that was made: a file was changed, lost or only half copied.",
        "Make it again: refine-export deploy triton; or copy it again.",
    ),
    "parameters": (
        "error",
        "Clients read from these what they talk to, and would be told of another model.",
        "Make the config again, or correct the parameter.",
    ),
    "ensemble": (
        "error",
        "The server refuses the ensemble.",
        'An ensemble has platform: "ensemble", steps, and no backend, instance_group, optimization or model_warmup.',
    ),
    "ensemble-model": (
        "error",
        "An ensemble does not load while one of its models is missing, does not load, or is the ensemble itself.",
        "Add the model, or correct model_name and model_version (-1 for the newest).",
    ),
    "ensemble-tensor": (
        "error",
        "The server refuses an ensemble with tensors that nothing writes or nothing reads, or inputs left open.",
        "Map each input and the needed outputs of each step once.",
    ),
    "ensemble-type": (
        "error",
        "The two sides of a tensor in an ensemble differ in type or shape: the server refuses it.",
        "Give both models the same type and dims.",
    ),
}
"""Rule -> severity, what a server makes of it, what to do. The lint's rules (`graph.rules`) come on top for ONNX files
that TensorRT is to parse."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a model repository."""

    rule: str
    """Stable id, a key of `RULES` or of `graph.rules.RULES`."""
    severity: Severity
    model: str
    """Its folder; "" for the repository."""
    where: str
    """File and field, such as `config.pbtxt: input 'img0'`."""
    message: str
    """What is there."""
    why: str
    fix: str


def finding(rule: str, model: str, where: str, message: str) -> Finding:
    """What a rule says of one place."""
    severity, why, fix = RULES[rule]
    return Finding(rule=rule, severity=severity, model=model, where=where, message=message, why=why, fix=fix)
