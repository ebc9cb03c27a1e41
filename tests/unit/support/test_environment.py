from refine_export import __version__
from refine_export.support.environment import machine, versions


def test_versions_name_what_is_installed():
    found = versions(("numpy", "absent-package"))
    assert set(found) == {"refine-export", "python", "numpy"}
    assert found["refine-export"] == __version__


def test_the_machine_has_a_system_a_processor_and_a_gpu():
    assert set(machine()) == {"system", "processor", "gpu"}
    assert all(machine().values())
