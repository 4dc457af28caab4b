"""Fixtures of the tests of annotations."""

from tests.data.conftest import empty_catalogs as empty_catalogs
