"""Documents from any file or folder that this package reads."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from jaxtask.corpora.conll import read_conll
from jaxtask.corpora.document import Document
from jaxtask.corpora.files import corpus_files, json_lines
from jaxtask.corpora.hub import Version, read_hub
from jaxtask.errors import CorpusError, shown


def read_documents(path: str | Path, version: Version = "english_v12") -> Iterator[Document]:
    """The documents of a file, or of all files below a folder, one at a time.

    Files named ``.jsonl`` and ``.parquet`` hold records of the hub's `conll2012_ontonotesv5`, all
    others CoNLL-2012 columns, plain or gzipped.

    Args:
        path: A file or a folder.
        version: Which class indices the records hold; see `read_hub`.

    Raises:
        CorpusError: See `read_conll` and `read_hub`; or a part of a document comes twice.

    """
    seen: dict[tuple[str, int], Path] = {}
    for file in corpus_files(path):
        records = file.name.endswith((".jsonl", ".jsonl.gz", ".parquet"))
        for document in read_hub(file, version) if records else read_conll(file):
            key = (document.id, document.part)
            if key in seen:
                raise CorpusError(
                    f"{file}: document {shown(document.id, 80)} part {document.part} comes twice, "
                    f"before in {seen[key]}"
                )
            seen[key] = file
            yield document


def read_summaries(path: str | Path) -> dict[str, str]:
    """Summaries by document id, from JSON lines with ``document_id`` and ``summary``.

    Of several summaries of one document the first counts.

    Raises:
        CorpusError: A line does not fit.

    """
    summaries: dict[str, str] = {}
    for number, record in json_lines(path, CorpusError, "line"):
        for key in ("document_id", "summary"):
            value = record.get(key)
            if not isinstance(value, str) or not value.strip():
                found = shown(value, 40) if key in record else "missing"
                raise CorpusError(f"{path}, line {number}: {key} is {found}, expected text")
        # No-break spaces are its own.
        summary = re.sub(r"[ \t\r\n]+", " ", record["summary"]).strip(" ")
        summaries.setdefault(record["document_id"], summary)
    return summaries


def with_summaries(
    documents: Iterable[Document], summaries: Mapping[str, str]
) -> Iterator[Document]:
    """The documents, each with its summary if there is one."""
    for document in documents:
        yield replace(document, summary=summaries.get(document.id))
