import pytest

from refine_export.errors import RequestError
from refine_export.signature import SIGNATURES, fitting_size, parse_size
from tests.support.refusals import refused


def test_a_size_is_height_by_width():
    assert parse_size("1088x1920") == (1088, 1920)


@pytest.mark.parametrize("text", ["", "1088", "1088x", "1088X1920", "-32x32", "0x32", "32x16416", "٣٢x٣٢"])
def test_what_is_not_a_size(text):
    with pytest.raises(ValueError, match="^size is"):
        parse_size(text)


@pytest.mark.parametrize(("multiple_of", "padded"), [(32, (128, 224)), (64, (128, 256)), (128, (128, 256))])
def test_what_the_user_gave_has_to_fit_the_padding_and_a_default_is_padded(multiple_of, padded):
    with refused("wrong-size", RequestError, multiple_of=multiple_of, padded=padded):
        fitting_size("100x200", multiple_of)
    assert fitting_size("1088x1920", 64) == (1088, 1920)
    assert fitting_size("1088x1920", 128, default=True) == (1152, 1920)


def test_the_features_shrink_level_by_level():
    assert [spec.shape_at(2, 64, 96) for spec in SIGNATURES["contextnet"].outputs] == [
        (2, 16, 32, 48),
        (2, 32, 16, 24),
        (2, 64, 8, 12),
        (2, 128, 4, 6),
    ]
