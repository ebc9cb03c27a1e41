import sys

import pytest

from refine_export.errors import UnavailableError
from refine_export.support.imports import import_if_installed, pip_install, require
from tests.support.refusals import refused


@pytest.mark.parametrize(("extra", "package"), [("torch", "onnxscript"), ("trt", "tensorrt"), ("video", "av")])
def test_a_missing_package_names_its_install_command(monkeypatch, extra, package):
    monkeypatch.setitem(sys.modules, "absent_package", None)
    with refused("missing-package", UnavailableError) as caught:
        require("absent_package", extra=extra)
    assert caught.value.fields == {"module": "absent_package", "extra": extra}
    assert pip_install(extra) in str(caught.value)
    assert package in pip_install(extra)


def test_a_broken_package_is_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise OSError('a library is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_if_installed("broken_package") is None
    with pytest.raises(UnavailableError):
        require("broken_package", extra="ort")
