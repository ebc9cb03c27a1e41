"""Options that make no sense are refused by their name."""

import pytest

from refine_export.validate.validate_options import ValidateOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"flows": ()},
        {"flows": ("large", "large")},
        {"share": 0.0},
        {"may_fail": -1},
        {"timesteps": (1.0,)},
        {"sizes": ("64x0",)},
    ],
)
def test_options_refuse(wrong):
    [name] = wrong
    with pytest.raises(ValueError, match=f"^{name}"):
        ValidateOptions(**wrong)
