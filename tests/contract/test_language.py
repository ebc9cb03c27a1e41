"""The rules of language that a machine can hold, for the whole package."""

import ast
import re

from refine_export import errors
from tests.support.paths import ROOT

PACKAGE = ROOT / "refine_export"
TEXTS = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in TEXTS.items()}
COMPUTED_CODES = {"jobs/recipe_file.py", "runners/triton/client.py"}
"""Modules that may choose a code at run time: pydantic reports several problems of a recipe at once, and the client
has a table of codes for the ways in which a server does not answer."""

FRAGMENT = re.compile(r"(Of|That|What|As|Whether|Which|By|For|How|Where|In|Also)\b")
NEGATION = re.compile(r"(?<!there )\b(is|are) no [a-z]", re.IGNORECASE)
ERRORS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}


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


def test_no_docstring_begins_with_a_fragment():
    """Properties may begin with "Whether": they are nouns."""
    found = []
    for name, tree in TREES.items():
        for node, text in docstrings(tree):
            decorators = [ast.unparse(one) for one in getattr(node, "decorator_list", [])]
            if FRAGMENT.match(text) and not ("property" in decorators and text.startswith("Whether")):
                found.append(f"{name}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}")
    assert not found


def test_plain_negation():
    found = []
    for name, text in TEXTS.items():
        for number, line in enumerate(text.splitlines(), 1):
            if NEGATION.search(line) or "can't" in line:
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found


def test_every_error_has_a_literal_code():
    """Also where it is built and not raised; an error that is made of another one keeps its code."""
    found = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)).removesuffix(".about") in ERRORS:
                codes = [one.value for one in node.keywords if one.arg == "code"]
                codes += node.args[1:2] if name.endswith(".about") else []
                kept = [ast.unparse(code) for code in codes] == ["error.code"]
                literal = [code.value for code in codes if isinstance(code, ast.Constant)]
                kebab = [code for code in literal if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(code))]
                if not (codes and path in COMPUTED_CODES) and not kept and len(kebab) != 1:
                    found.append(f"{path}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert not found
