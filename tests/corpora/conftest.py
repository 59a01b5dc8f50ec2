"""Fixtures: the two real corpora, each read once."""

import pytest

from jaxtask.corpora import read_conll
from real_data import real_data

CORPORA = {"gum": "gum-conll2012", "ewt": "ewt-propbank"}


@pytest.fixture(scope="session")
def corpus():
    """`corpus("gum")` is (its files, its documents); skips where it is not there."""
    read = {}

    def documents(name):
        if name not in read:
            files = sorted(real_data(CORPORA[name]).glob("*.gz"))
            read[name] = (files, [d for file in files for d in read_conll(file)])
        return read[name]

    return documents
