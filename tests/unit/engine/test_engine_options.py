"""Options that contradict each other, or that no engine can have, are refused with the name of the option."""

import pytest

from refine_export.engine.build_options import BuildOptions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"opt_size": "100x64"}, "opt_size: size is '100x64'; expected multiples of 32"),
        ({"min_size": "2176x3840"}, "min_size 2176x3840, opt_size 1088x1920, max_size 1088x1920 are not ascending"),
        ({"max_size": "2176x1888"}, "are not ascending"),
        ({"opt_batch": 2}, "min_batch 1, opt_batch 2, max_batch 1 are not batches"),
        ({"max_batch": 257}, "expected 1 <= min <= opt <= max <= 256"),
        ({"min_batch": 0}, "are not batches"),
        ({"optimization_level": 6}, "optimization_level is 6; expected 0 to 5"),
        ({"workspace_mib": 0}, "workspace_mib is 0; expected 1 to 2147483647"),
        ({"time_limit_s": 0}, "time_limit_s is 0"),
        ({"time_limit_s": 10**400}, "expected 1 to 2147483647"),
        ({"memory_limit_mib": -1}, "memory_limit_mib is -1"),
        ({"aux_streams": -1}, "aux_streams is -1; expected 0 to 2147483647"),
        ({"exclude_lean_runtime": True}, "expected it with version_compatible = true only"),
        ({"strip_weights": True, "refittable": True}, "strip_weights and refittable are both true"),
        ({"version_compatible": True, "refittable": True}, "the lean runtime, which runs such an engine, can't refit"),
        ({"version_compatible": True, "strip_weights": True}, "expected one or the other"),
    ],
)
def test_what_no_engine_can_have_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        BuildOptions(**options)


def test_a_range_of_sizes_and_batches():
    options = BuildOptions(min_size="256x448", max_size="2176x3840", opt_batch=2, max_batch=4)
    assert (options.opt_size, options.min_batch) == ("1088x1920", 1)
