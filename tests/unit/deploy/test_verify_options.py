"""Options of `deploy verify`."""

import pytest

from refine_export.deploy.verify.verify_options import VerifyOptions


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("urls", ()),
        ("url", ("nonsense",)),
        ("protocols", ("ftp",)),
        ("concurrencies", (0,)),
        ("requests", -1),
        ("version", "x"),
        ("timeout_s", 0),
    ],
)
def test_wrong_options(option, value):
    given = {"urls": ("a:1",)} | ({"urls": value} if option == "url" else {option: value})
    with pytest.raises(ValueError, match=f"^{option} is "):
        VerifyOptions(**given)
