"""Models of real sizes, so programs as users have them: compiling is not what takes time here."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _compile_fully(compile_fully):
    """For all modules."""
