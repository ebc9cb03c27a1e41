from refine_export import __version__
from refine_export.support.environment import versions


def test_versions_name_what_is_installed():
    found = versions(("numpy", "absent-package"))
    assert set(found) == {"refine-export", "python", "numpy"}
    assert found["refine-export"] == __version__
