"""Documents as records of the hub's data set, written here independently of the reader."""

from jaxtask.corpora.hub import ENTITY_TAGS, POS_TAGS


def fits(document, version):
    """Whether the records can say everything that the document says."""
    return all(
        set(s.pos) <= set(POS_TAGS[version])
        and {f"B-{e.label}" for e in s.entities} <= set(ENTITY_TAGS)
        and not any(_nested(p.arguments) for p in s.predicates)
        for s in document.sentences
    )


def record(document, version):
    sentences = []
    for n, s in enumerate(document.sentences):
        leaves = {
            p: f"({tag} {'-LRB-' if w == '(' else '-RRB-' if w == ')' else w})"
            for p, (w, tag) in enumerate(zip(s.words, s.pos, strict=True))
        }
        frames = [
            {"verb": s.words[p.position], "frames": _bio(p.arguments, len(s.words))}
            for p in s.predicates
        ]
        spans = [
            [cluster, m.start, m.end - 1]
            for cluster, chain in enumerate(document.chains)
            for m in chain
            if m.sentence == n
        ]
        sentences.append(
            {
                "part_id": document.part,
                "words": list(s.words),
                "pos_tags": [POS_TAGS[version].index(tag) for tag in s.pos],
                "parse_tree": _bracketed(s.tree, leaves) if s.tree else None,
                "predicate_lemmas": list(s.lemmas),
                "predicate_framenet_ids": list(s.framesets),
                "word_senses": [None if x is None else float(x) for x in s.senses],
                "speaker": s.speaker or "-",
                "named_entities": [ENTITY_TAGS.index(t) for t in _bio(s.entities, len(s.words))],
                "srl_frames": frames,
                "coref_spans": spans,
            }
        )
    return {"document_id": document.id, "sentences": sentences}


def _bio(spans, size):
    tags = ["O"] * size
    for s in spans:
        tags[s.start : s.end] = [f"B-{s.label}"] + [f"I-{s.label}"] * (s.end - s.start - 1)
    return tags


def _bracketed(node, leaves):
    if isinstance(node, int):
        return leaves[node]
    return f"({node.label}{''.join(' ' + _bracketed(c, leaves) for c in node.children)})"


def _nested(spans):
    taken = [p for s in spans for p in range(s.start, s.end)]
    return len(taken) > len(set(taken))
