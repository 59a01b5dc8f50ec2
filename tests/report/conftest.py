"""One small result, what was found in it, and its page."""

from dataclasses import replace

import pytest

import jaxtask as jt
from jaxtask.report.page import write_page

from .results import GROUPS, small_result


@pytest.fixture(scope="session")
def result():
    return small_result()


@pytest.fixture(scope="session")
def findings(result):
    return jt.analyze(result, GROUPS, permutations=99, resamples=100)


@pytest.fixture(scope="session")
def page(result, findings, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(result, findings, path)
    return path


@pytest.fixture(scope="session")
def bare(result, findings):
    """The same result and findings without anything that an option adds."""
    kept = [name for name in result.data_vars if name in ("cosine", "valid", "frobenius", "rank")]
    pooled = {"cosine": findings.pooled["cosine"]}
    less = {"pooled": pooled, "groups": None, "separation": None, "inclusion": None, "maps": None}
    return result[kept], replace(findings, **less, cells={}, agreement={})
