"""The rules of language that a machine can hold, package by package."""

import ast
import re

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "refine_export"
CHECKED = ("cli", "data", "doctor", "gate", "interpolation", "jobs", "report", "runners", "__init__.py", "testing.py")
"""Packages and modules whose texts and errors have been brought to the rules."""

FRAGMENT = re.compile(r"(Of|That|What|As|Whether|Which)\b")
NEGATION = re.compile(r"(?<!there )\b(is|are) no [a-z]")
ERRORS = {
    "RefineExportError",
    "RequestError",
    "CheckpointError",
    "FrameError",
    "GraphError",
    "EngineError",
    "RepositoryError",
    "RecipeError",
    "UnavailableError",
    "InternalError",
}


def sources():
    for name in CHECKED:
        path = PACKAGE / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


FILES = list(sources())
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if (text := ast.get_docstring(node)) is not None:
                yield node, text
            for statement, below in zip(node.body, node.body[1:], strict=False):  # docstrings under fields
                if (
                    isinstance(statement, ast.AnnAssign | ast.Assign)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                ):
                    yield below, str(below.value.value)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_docstring_begins_with_a_fragment(path):
    """Properties may begin with "Whether": they are nouns."""
    found = []
    for node, text in docstrings(ast.parse(path.read_text(encoding="utf-8"))):
        decorators = [ast.unparse(one) for one in getattr(node, "decorator_list", [])]
        if FRAGMENT.match(text) and not ("property" in decorators and text.startswith(("Whether", "What"))):
            found.append(f"{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert not found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_plain_negation(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if NEGATION.search(line)]
    assert not [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if "can't" in line]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_error_has_a_code(path):
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in ERRORS:
            codes = [one.value for one in node.exc.keywords if one.arg == "code"]
            literal = [code.value for code in codes if isinstance(code, ast.Constant)]
            if not codes or any(not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(code)) for code in literal):
                found.append(f"{node.lineno}: {ast.unparse(node.exc)[:80]}")
    assert not found
