"""Options that contradict each other, or that no engine can have, are refused with the name of the option."""

import pytest

from refine_export.engine.build_options import BuildOptions


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"opt_size": "0x64"}, "opt_size"),
        ({"min_size": "2176x3840"}, "min_size"),
        ({"max_size": "2176x1888"}, "min_size"),
        ({"opt_batch": 2}, "min_batch"),
        ({"max_batch": 257}, "min_batch"),
        ({"min_batch": 0}, "min_batch"),
        ({"optimization_level": 6}, "optimization_level"),
        ({"workspace_mib": 0}, "workspace_mib"),
        ({"time_limit_s": 10**400}, "time_limit_s"),
        ({"memory_limit_mib": -1}, "memory_limit_mib"),
        ({"aux_streams": -1}, "aux_streams"),
        ({"aux_streams": 10**9}, "aux_streams"),
        ({"exclude_lean_runtime": True}, "exclude_lean_runtime"),
        ({"strip_weights": True, "refittable": True}, "strip_weights"),
        ({"version_compatible": True, "refittable": True}, "version_compatible"),
        ({"version_compatible": True, "strip_weights": True}, "version_compatible"),
        ({"gpu": ("rtx60",)}, "gpu"),
        ({"gpu": ("rtx40", "H100")}, "gpu"),
        ({"gpu": ("L40S",)}, "gpu"),
    ],
)
def test_what_no_engine_can_have_is_refused(options, named):
    with pytest.raises(ValueError, match=rf"^{named}\b"):
        BuildOptions(**options)


def test_a_range_of_sizes_and_batches():
    options = BuildOptions(min_size="256x448", max_size="2176x3840", opt_batch=2, max_batch=4)
    assert (options.opt_size, options.min_batch) == ("1088x1920", 1)


def test_families_become_compute_capabilities():
    assert BuildOptions(gpu=("rtx50", "SM86", "rtx30", "turing")).compute_capabilities == ("sm75", "sm86", "sm120")
    assert BuildOptions().compute_capabilities == ()
