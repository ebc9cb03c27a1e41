"""Checks of errors by code and fields, not by sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from refine_export.errors import RefineExportError


@contextmanager
def refused(
    code: str, error: type[RefineExportError] = RefineExportError, **fields: Any
) -> Iterator[pytest.ExceptionInfo[RefineExportError]]:
    """Check that the block raises an error with this code and these fields; the error is there behind it."""
    with pytest.raises(error) as caught:
        yield caught
    found = caught.value.code, {name: caught.value.fields.get(name) for name in fields}
    assert found == (code, fields), caught.value
