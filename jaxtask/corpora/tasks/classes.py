"""Classification tasks for encoders."""

from functools import partial

from jaxtask.corpora.document import Document
from jaxtask.corpora.tasks.entities import CATEGORIES
from jaxtask.corpora.tasks.registry import task


@task("genre", kind="classification", needs="genre")
def genre(document: Document) -> tuple[str, str]:
    """The genre of a document."""
    assert document.genre is not None
    return document.text, document.genre


def _has(category: str, document: Document) -> tuple[str, str]:
    there = any(e.label == category for s in document.sentences for e in s.entities)
    return document.text, "yes" if there else "no"


for _category in CATEGORIES:
    task(
        f"has-{_category.lower().replace('_', '-')}",
        kind="classification",
        needs="entities",
        unit="sentence",
        labels=("no", "yes"),
        summary=f"Whether a sentence names an entity of the category {_category}",
    )(partial(_has, _category))
