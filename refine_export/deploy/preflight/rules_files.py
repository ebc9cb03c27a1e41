"""Rules on the files of a model: the model file of each version, and the code of a model.py, which is not run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from refine_export.deploy.preflight.findings import RepositoryFinding
from refine_export.deploy.preflight.repository_reader import (
    MISSING,
    MODEL_FILES,
    Model,
    read_text,
    why_unreadable,
)

_CHECKS_NUMPY = re.compile(r"""\b(np|numpy)\.__version__|version\(\s*["']numpy["']\s*\)|NumpyVersion""")


def check_files(model: Model) -> Iterator[RepositoryFinding]:
    """Check that each version has its model file, and that an ensemble's folder is not empty, or no copy keeps it."""
    for folder in model.versions.values():
        if model.backend == "ensemble":
            if not any(folder.iterdir()):
                yield model.found("version-empty", model.where(folder), "the folder is empty")
        elif model.backend == "python":
            for path in model.files(folder):
                yield from _python(model, path)
        elif model.backend in MODEL_FILES:
            for path in model.files(folder):
                if problem := why_unreadable(path, model.root):
                    yield model.found("model-file", model.where(path), problem)


def _python(model: Model, path: Path) -> Iterator[RepositoryFinding]:
    where = model.where(path)
    text, problem = read_text(path, model.root)
    if problem:
        yield model.found("python-without-model" if problem == MISSING else "unreadable", where, problem)
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield model.found("python-model", where, f"it is not Python: {error}")
        return
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TritonPythonModel"]
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    if not classes and not imported & {"TritonPythonModel", "*"}:
        yield model.found("python-model", where, "it has no class TritonPythonModel")
    for one in classes:
        yield from _execute(model, one, where)
    if "EXECUTION_ENV_PATH" not in model.config.parameters and not _CHECKS_NUMPY.search(text):
        yield model.found("python-numpy", where, "nothing shows which NumPy it runs with")


def _execute(model: Model, one: ast.ClassDef, where: str) -> Iterator[RepositoryFinding]:
    methods = (ast.FunctionDef, ast.AsyncFunctionDef)
    execute = next((node for node in one.body if isinstance(node, methods) and node.name == "execute"), None)
    if execute is None:
        if not one.bases:  # a base class may have it
            yield model.found("python-model", where, "its class TritonPythonModel has no method execute")
        return
    returned = [node.value for node in ast.walk(execute) if isinstance(node, ast.Return)]
    answers = any(not isinstance(value, ast.Constant | None) for value in returned)
    if not answers and not model.config.model_transaction_policy.decoupled:
        yield model.found("python-returns-nothing", f"{where}, line {execute.lineno}", "execute returns no responses")
