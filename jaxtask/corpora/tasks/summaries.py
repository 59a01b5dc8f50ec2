"""The task of summarising: references come from a file beside the corpus."""

from jaxtask.corpora.document import Document
from jaxtask.corpora.tasks.registry import task


@task("sum", needs="summary")
def summarise(document: Document) -> tuple[str, str]:
    """The document's reference summary: that of the whole document, even where it is cut."""
    assert document.summary is not None
    return "summarize the document.", document.summary
