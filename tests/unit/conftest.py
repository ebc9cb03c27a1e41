"""Unit tests have no network: what would be fetched is not there."""

import pytest


@pytest.fixture(autouse=True)
def nothing_is_fetched(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REFINE_EXPORT_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
