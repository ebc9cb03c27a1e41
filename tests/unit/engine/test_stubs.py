"""The stubs that mypy reads say what the installed bindings of TensorRT for RTX have: members, arguments, defaults."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

STUBS = Path(__file__).parents[2] / "stubs"
BY_NVIDIA = re.compile(r"^(?:\d+\. )?\w+\((.*)\) -> ", re.MULTILINE)
ABSENT = {
    "__buffer__",  # the buffer protocol, as Python 3.12 spells it for type checkers
    *("PREFER_AOT_PYTHON_PLUGINS", "PREFER_JIT_PYTHON_PLUGINS", "init_libnvinfer_plugins"),  # it has no plugins
}


def members(stub):
    """Yield each class with its name in the bindings, and each definition in it."""
    for statement in ast.parse((STUBS / stub / "__init__.pyi").read_text()).body:
        if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
            for member in statement.body:
                yield statement.name, member
        elif isinstance(statement, ast.FunctionDef):
            yield None, statement


def names_of(member):
    if isinstance(member, ast.AnnAssign):
        return [member.target.id]
    return [member.name] if isinstance(member, ast.FunctionDef) else []


def is_property(member):
    return any(isinstance(one, ast.Name) and one.id == "property" for one in getattr(member, "decorator_list", ()))


def promised(function):
    """Return the arguments that a stub gives a method, and whether each has a default."""
    given, missing = function.args.args, len(function.args.args) - len(function.args.defaults)
    return [(argument.arg, place >= missing) for place, argument in enumerate(given)]


def documented(method):
    """Return the same of each overload, as pybind11 writes them at the head of a docstring."""
    return [
        [
            (part.partition(":")[0], " = " in part)
            for part in re.split(r", (?=\w+: |/)", signature)
            if part.partition(":")[0] not in ("self", "arg0", "/", "")
        ]
        for signature in BY_NVIDIA.findall(method.__doc__ or "")
    ]


@pytest.mark.parametrize("stub", ["tensorrt", "tensorrt_rtx"])
def test_members(stub):
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("tensorrt-rtx is not installed: pip install tensorrt-rtx")
    import tensorrt_rtx as real

    wrong, seen = [], 0
    for owner, member in members(stub):
        for name in names_of(member):
            if {owner, name} & ABSENT:
                continue
            where = real if owner is None else getattr(real, owner, None)
            label, found = f"{owner}.{name}", getattr(where, name, None)
            seen += 1
            if where is None or not hasattr(where, name):
                wrong.append(f"{label} does not exist")
            elif isinstance(member, ast.FunctionDef) and not is_property(member):
                overloads = documented(found)
                arguments = [(argument, default) for argument, default in promised(member) if argument != "self"]
                if overloads and arguments not in overloads:
                    wrong.append(f"{label}{arguments}: the bindings have {overloads}")
            elif isinstance(member, ast.AnnAssign) and isinstance(found, property) and found.fset is None:
                wrong.append(f"{label} cannot be set")
    assert seen > 10
    assert not wrong, "\n".join(wrong)
