"""Runs that the tests of pictures and pages share."""

from tests.support.compared_pages import compared_fixture  # noqa: F401 (a fixture)
