import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from refine_export.support.text import json_safe, listed, size_text


@dataclass(frozen=True)
class Part:
    path: Path
    values: tuple[float, ...]


@pytest.mark.parametrize(
    ("names", "most", "expected"),
    [((), 2, ""), ("a", 2, "a"), ("ab", 2, "a, b"), ("abc", 2, "a, b and 1 more"), ("abcde", 1, "a and 4 more")],
)
def test_listed_counts_what_it_leaves_out(names, most, expected):
    assert listed(iter(names), most) == expected


def test_size_text_keeps_symbols():
    assert size_text((1, 3, "H", 448)) == "1x3xHx448"


def test_json_safe_makes_text_of_a_name_that_is_not_utf8():
    name = os.fsdecode(b"\xff.onnx")
    assert json_safe({name: Path(name)}) == {"\\udcff.onnx": "\\udcff.onnx"}


def test_json_safe_holds_in_strict_json():
    content = {"parts": [Part(Path("a/b"), (1.5, math.inf))], "nan": math.nan, "count": 3, "none": None}
    assert json.loads(json.dumps(json_safe(content), allow_nan=False)) == {
        "parts": [{"path": "a/b", "values": [1.5, None]}],
        "nan": None,
        "count": 3,
        "none": None,
    }
