"""Tasks about semantic roles."""

from collections.abc import Iterator

from jaxtask.corpora.detokenise import join_sentences
from jaxtask.corpora.document import Document, Predicate, Sentence
from jaxtask.corpora.tasks._text import as_sentence, trimmed, words_at
from jaxtask.corpora.tasks.registry import task

_ROLES = ("ARG0", "V", "ARG1", "ARGM-TMP")

# A frame: its sentence, and the positions of each role's words, in the order of `_ROLES`.
_Frame = tuple[Sentence, dict[str, list[int]]]


@task("srl", needs="predicates")
def srl(document: Document) -> tuple[str, str]:
    """For each verb with an ARG0 and an ARG1 or ARGM-TMP: ARG0 VERB ARG1 ARGM-TMP, in this order.

    A role's continuation (C-…) stands with it, "by" does not; of several ARG0 or ARG1 the first
    counts.
    """
    clauses = (
        as_sentence(words_at(sentence, [p for at in roles.values() for p in at]))
        for sentence, roles in _frames(document)
    )
    return "build sentences with only ARG0 VERB ARG1 ARGM-TMP.", join_sentences(clauses)


@task("srl-list", needs="predicates")
def srl_list(document: Document) -> tuple[str, str]:
    """The frames that `srl` builds its sentences from, one per line, each role by its name."""
    lines = (
        "; ".join(
            f"{'VERB' if role == 'V' else role}: {trimmed(words_at(sentence, positions))}"
            for role, positions in roles.items()
        )
        for sentence, roles in _frames(document)
    )
    return "list the ARG0, VERB, ARG1 and ARGM-TMP of each verb, one verb a line.", "\n".join(lines)


def _frames(document: Document) -> Iterator[_Frame]:
    for sentence in document.sentences:
        for predicate in sorted(sentence.predicates, key=lambda p: p.position):
            if not sentence.pos[predicate.position].startswith("VB"):
                continue
            roles = {role: _positions(predicate, role) for role in _ROLES}
            # The agent of a passive is annotated with its preposition.
            if len(roles["ARG0"]) > 1 and sentence.words[roles["ARG0"][0]].lower() == "by":
                del roles["ARG0"][0]
            if roles["ARG0"] and (roles["ARG1"] or roles["ARGM-TMP"]):
                yield sentence, {role: at for role, at in roles.items() if at}


def _positions(predicate: Predicate, role: str) -> list[int]:
    """Positions of the role's words, with its continuations."""
    own = [a for a in predicate.arguments if a.label == role]
    if role != "ARGM-TMP":
        own = own[:1]
    if own:
        own += [a for a in predicate.arguments if a.label == f"C-{role}"]
    return sorted({p for a in own for p in range(a.start, a.end)})
