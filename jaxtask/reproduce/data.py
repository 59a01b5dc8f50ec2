"""The first stage: excerpts of corpora, and the tasks that are built from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtask.corpora import Document, Length, build_tasks, read_documents, write_conll
from jaxtask.corpora.files import json_lines, new_file
from jaxtask.errors import ExperimentError
from jaxtask.names import check_path
from jaxtask.reproduce.experiment import Corpus, Excerpt, Experiment


def find_folders(experiment: Experiment, data: Path, given: Sequence[str]) -> dict[str, Path]:
    """Corpus → its folder: below `data`, or as ``NAME=FOLDER`` among `given` says.

    Raises:
        ExperimentError: `given` names no corpus of the experiment, or a file of one is not there.

    """
    folders = {name: data / corpus.folder for name, corpus in experiment.corpora.items()}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name in folders and equals and folder):
            raise ExperimentError(
                f"--corpus {text!r:.200}: expected NAME=FOLDER with one of {', '.join(folders)}"
            )
        folders[name] = Path(folder)
    for name, corpus in experiment.corpora.items():
        for file in (*corpus.train, *corpus.dev, corpus.summaries):
            if file is not None:
                check_path(folders[name] / file, f"corpus {name}:", ExperimentError)
            if file is not None and not (folders[name] / file).exists():
                raise ExperimentError(
                    f"corpus {name}: {folders[name] / file} is not there; give --data FOLDER, or "
                    f"--corpus {name}=FOLDER"
                )
    return folders


def build_corpus(
    name: str,
    corpus: Corpus,
    folder: Path,
    out: Path,
    *,
    max_len: int,
    length: Length,
    command: str = "",
) -> None:
    """The tasks of one corpus, as folders in ``out/data``; its excerpts go to ``out/corpora``.

    Raises:
        ExperimentError: No document of a split has an excerpt.
        CorpusError, TaskError: See `build_tasks`.

    """
    (out / "corpora").mkdir(parents=True, exist_ok=True)
    files = {}
    for split, parts, most in (
        ("train", corpus.train, corpus.documents),
        ("dev", corpus.dev, corpus.held_out),
    ):
        documents = [d for part in parts for d in read_documents(folder / part)]
        found = [
            (d.window(start, len(d.sentences)), start)
            for d in documents
            if (start := _start(d, corpus.excerpt, length)) is not None
        ]
        if not found:
            assert corpus.excerpt
            raise ExperimentError(
                f"corpus {name}, {split}: none of {len(documents)} documents has "
                f"{corpus.excerpt.sentences} sentences in a row of at most "
                f"{corpus.excerpt.tokens} {length.unit}"
            )
        chosen = spread(found, most)
        files[split] = [out / "corpora" / f"{name}-{split}.conll"]
        write_conll([excerpt for excerpt, _ in chosen], files[split][0])
        starts = {d.id: start for d, start in chosen}
        with new_file(files[split][0].with_suffix(".json")) as file:
            file.write(json.dumps({"first_sentence": starts}, indent=1).encode() + b"\n")
    build_tasks(
        corpus.tasks,
        files,
        out / "data",
        summaries=None if corpus.summaries is None else folder / corpus.summaries,
        prefix=corpus.prefix or "",
        max_len=max_len,
        length=length,
        overwrite=True,
        command=command,
    )


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """So many of them at equal distances, so that all genres of a corpus are among them."""
    count = min(count, len(items))
    return [items[n * len(items) // count] for n in range(count)]


def _start(document: Document, excerpt: Excerpt | None, length: Length) -> int | None:
    """The sentence that a document's excerpt begins with, or None if there is no excerpt."""
    if excerpt is None:
        return 0
    sizes = [length.count(sentence.text) for sentence in document.sentences]
    starts = range(len(sizes) - excerpt.sentences + 1)
    return next(
        (n for n in starts if sum(sizes[n : n + excerpt.sentences]) <= excerpt.tokens), None
    )


def same_targets(data: Path, names: Sequence[str]) -> dict[tuple[str, str], float]:
    """Of each two tasks, in which share of the documents that both train on they ask for the same.

    Tasks that do in most are one task under two names. Pairs without a common document are left
    out.
    """
    targets = {name: _targets(data / name / "train.jsonl") for name in names}
    shares = {}
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            both = targets[one].keys() & targets[other].keys()
            if both:
                same = sum(targets[one][key] == targets[other][key] for key in both)
                shares[one, other] = same / len(both)
    return shares


def _targets(path: Path) -> Mapping[tuple[str, int], str]:
    lines = json_lines(path, ExperimentError, "line")
    try:
        return {(line["document_id"], line["part"]): line["target"] for _, line in lines}
    except (KeyError, TypeError) as error:
        raise ExperimentError(f"{path}: a line of it is of no task: {error}") from error
