import pytest

from refine_export.signature import SIGNATURES, parse_size


def test_a_size_is_height_by_width():
    assert parse_size("1088x1920") == (1088, 1920)


@pytest.mark.parametrize("text", ["", "1088", "1088x", "1088X1920", "-32x32", "0x32", "100x200", "32x16416", "٣٢x٣٢"])
def test_a_size_that_no_graph_takes(text):
    with pytest.raises(ValueError, match="^size is"):
        parse_size(text)


def test_the_message_has_the_nearest_size():
    with pytest.raises(ValueError, match="96x192"):
        parse_size("100x200")


def test_the_features_shrink_level_by_level():
    assert [spec.shape_at(2, 64, 96) for spec in SIGNATURES["contextnet"].outputs] == [
        (2, 16, 32, 48),
        (2, 32, 16, 24),
        (2, 64, 8, 12),
        (2, 128, 4, 6),
    ]
