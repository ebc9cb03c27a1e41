"""Rules on the files of a model: what each version's folder has to hold, and what a model.py has to say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from refine_export.deploy.preflight.repository_reader import MODEL_BYTES, MODEL_FILES, Model, text_of, unreadable
from refine_export.deploy.preflight.rules_text import Finding
from refine_export.deploy.triton.names import PYTHON_FILE

_CHECKS_NUMPY = re.compile(r"""\b(np|numpy)\.__version__|version\(\s*["']numpy["']\s*\)|NumpyVersion""")


def model_files(model: Model) -> Iterator[Finding]:
    """Each version has its model file; an ensemble's folder must not be empty, or no copy keeps it."""
    for folder in model.versions.values():
        where = model.where(folder)
        if model.backend == "ensemble":
            if not any(folder.iterdir()):
                yield model.found("version-empty", where, "the folder is empty")
        elif model.backend == "python":
            yield from _python(model, folder / (model.config.default_model_filename or PYTHON_FILE))
        elif model.backend in MODEL_FILES:
            for path in files_of(model, folder):
                if problem := unreadable(path, model.root, MODEL_BYTES):
                    yield model.found("model-file", model.where(path), problem)


def files_of(model: Model, folder: Path) -> list[Path]:
    """The model's files in a version: one, or one more for each compute capability. A large ONNX model is a folder."""
    names = dict.fromkeys((model.filename, *(model.config.cc_model_filenames[key] for key in capabilities(model))))
    paths = [folder / name for name in names]
    if model.config.cc_model_filenames and not model.config.default_model_filename and not paths[0].exists():
        paths = paths[1:]  # each GPU has its own: the default is for the others
    return [path / path.name if model.backend == "onnxruntime" and path.is_dir() else path for path in paths]


def capabilities(model: Model) -> list[str]:
    """Compute capabilities with a file of their own, such as `8.9`."""
    return sorted(model.config.cc_model_filenames)


def _python(model: Model, path: Path) -> Iterator[Finding]:
    text, problem = text_of(path, model.root)
    where = model.where(path)
    if problem == "it is missing":
        yield model.found("python-without-model", where, problem)
        return
    if problem:
        yield model.found("unreadable", where, problem)
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield model.found("python-model", where, f"it is no Python: {error}")
        return
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TritonPythonModel"]
    imported = any(
        alias.asname == "TritonPythonModel" or alias.name in ("TritonPythonModel", "*")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    if not classes and not imported:
        yield model.found("python-model", where, "it has no class TritonPythonModel")
    for one in classes:
        yield from _execute(model, one, where)
    if "EXECUTION_ENV_PATH" not in model.config.parameters and not _CHECKS_NUMPY.search(text):
        yield model.found("python-numpy", where, "nothing says which NumPy it runs with")


def _execute(model: Model, one: ast.ClassDef, where: str) -> Iterator[Finding]:
    methods = (ast.FunctionDef, ast.AsyncFunctionDef)
    execute = next((node for node in one.body if isinstance(node, methods) and node.name == "execute"), None)
    if execute is None:
        if not one.bases:
            yield model.found("python-model", where, "its class TritonPythonModel has no method execute")
        return
    answers = any(
        isinstance(node, ast.Return) and not (node.value is None or _is_none(node.value)) for node in ast.walk(execute)
    )
    if not answers and not model.config.model_transaction_policy.decoupled:
        yield model.found("python-returns-nothing", f"{where}, line {execute.lineno}", "execute returns no responses")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
