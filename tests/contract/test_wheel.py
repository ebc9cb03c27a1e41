"""The wheel has both packages, the template and the type markers, and nothing else."""

import zipfile

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as wheel:
        return set(wheel.namelist())


def test_contents(names):
    def shipped(package, folder):
        return {
            f"{package}/{path.relative_to(folder).as_posix()}"
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    packages = shipped("refine_export", ROOT / "refine_export") | shipped("rife", ROOT / "models" / "rife")
    assert {name for name in names if ".dist-info/" not in name} == packages
    for needed in (
        "refine_export/py.typed",
        "rife/py.typed",
        "rife/refine.py",
        "refine_export/report/template.html.j2",
    ):
        assert needed in names


def test_entry_point_and_licence(names):
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
