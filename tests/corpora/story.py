"""A document of six sentences, written by hand: its columns, and what they mean."""

from jaxtask.corpora import Document, Mention, Predicate, Sentence, Span, Tree

COLUMNS = """\
#begin document (gum/news/story); part 002
gum/news/story 2 0 Mary NNP (TOP(S(NP* - - - Ann (PERSON* (ARG0* (4
gum/news/story 2 1 Poe NNP *) - - - Ann *) *) 4)
gum/news/story 2 2 visited VBD (VP* visit 01 1 Ann * (V*) -
gum/news/story 2 3 the DT (NP(NP* - - - Ann * (ARG1* (7
gum/news/story 2 4 bank NN *) - - - Ann * * -
gum/news/story 2 5 in IN (PP* - - - Ann * * -
gum/news/story 2 6 Oslo NNP (NP*))) - - - Ann (GPE) *) 7)
gum/news/story 2 7 on IN (PP* - - - Ann * (ARGM-TMP* -
gum/news/story 2 8 Monday NNP (NP*))) - - - Ann (DATE*) *) -
gum/news/story 2 9 . . *)) - - - Ann * * -

gum/news/story 2 0 `` `` (TOP(S* - - - - * *
gum/news/story 2 1 It PRP (NP*) - - - - * (7)
gum/news/story 2 2 is VBZ (VP* be - 1 - * -
gum/news/story 2 3 n't RB * - - - - * -
gum/news/story 2 4 old JJ (ADJP*)) - - - - * -
gum/news/story 2 5 , , * - - - - * -
gum/news/story 2 6 '' '' * - - - - * -
gum/news/story 2 7 . . *)) - - - - * -

gum/news/story 2 0 Because IN (TOP(S(SBAR* - - - - * * * * -
gum/news/story 2 1 she PRP (S(NP*) - - - - * (ARG0*) * * (4)
gum/news/story 2 2 liked VBD (VP* like 01 - - * (V*) * * -
gum/news/story 2 3 it PRP (NP*)))) - - - - * (ARG1*) * * (7)
gum/news/story 2 4 , , * - - - - * * * * -
gum/news/story 2 5 Mary NNP (NP(NP* - - - - (PERSON* * (ARG0* (ARG0* (4
gum/news/story 2 6 Poe NNP * - - - - *) * * * -
gum/news/story 2 7 's POS *) - - - - * * * * 4)
gum/news/story 2 8 sister NN *) - - - - * * *) *) (9)
gum/news/story 2 9 gave VBD (VP(VP* give 01 - - * * (V*) * -
gum/news/story 2 10 it PRP (NP*) - - - - * * (ARG1*) * (7)
gum/news/story 2 11 up RP (PRT*)) - - - - * * (C-V*) * -
gum/news/story 2 12 and CC * - - - - * * * * -
gum/news/story 2 13 slept VBD (VP*)) sleep 01 - - * * * (V*) -
gum/news/story 2 14 . . *)) - - - - * * * * -

gum/news/story 2 0 In IN (TOP(PP* - - - - * -
gum/news/story 2 1 town NN (NP*))) - - - - * -

gum/news/story 2 0 Her PRP$ (TOP(S(NP* - - - - * (4)
gum/news/story 2 1 fee NN *) - - - - * -
gum/news/story 2 2 rose VBD (VP* - - - - * -
gum/news/story 2 3 $ $ (NP* - - - - (MONEY* -
gum/news/story 2 4 5 CD *) - - - - *) -
gum/news/story 2 5 -LRB- -LRB- (PRN* - - - - * -
gum/news/story 2 6 10 CD (NP* - - - - * -
gum/news/story 2 7 % NN *) - - - - * -
gum/news/story 2 8 -RRB- -RRB- *)))) - - - - * -

gum/news/story 2 0 Oslo NNP (TOP(S(NP*) - - - - (GPE*) -
gum/news/story 2 1 waits VBZ (VP*) - - - - * -
gum/news/story 2 2 . . *)) - - - - * -

#end document
"""


def story(**changes):
    """The document that the columns hold."""
    sentences = (
        Sentence(
            words=_words("Mary Poe visited the bank in Oslo on Monday ."),
            pos=_words("NNP NNP VBD DT NN IN NNP IN NNP ."),
            tree=_t(
                "TOP",
                _t(
                    "S",
                    _t("NP", 0, 1),
                    _t(
                        "VP",
                        2,
                        _t("NP", _t("NP", 3, 4), _t("PP", 5, _t("NP", 6))),
                        _t("PP", 7, _t("NP", 8)),
                    ),
                    9,
                ),
            ),
            lemmas=_at(10, {2: "visit"}),
            framesets=_at(10, {2: "01"}),
            senses=_at(10, {2: "1"}),
            speaker="Ann",
            entities=(Span(0, 2, "PERSON"), Span(6, 7, "GPE"), Span(8, 9, "DATE")),
            predicates=(
                Predicate(
                    2,
                    (
                        Span(0, 2, "ARG0"),
                        Span(2, 3, "V"),
                        Span(3, 7, "ARG1"),
                        Span(7, 9, "ARGM-TMP"),
                    ),
                ),
            ),
        ),
        Sentence(
            words=("``", "It", "is", "n't", "old", ",", "''", "."),
            pos=("``", "PRP", "VBZ", "RB", "JJ", ",", "''", "."),
            tree=_t("TOP", _t("S", 0, _t("NP", 1), _t("VP", 2, 3, _t("ADJP", 4)), 5, 6, 7)),
            lemmas=_at(8, {2: "be"}),
            senses=_at(8, {2: "1"}),
        ),
        Sentence(
            words=_words("Because she liked it , Mary Poe 's sister gave it up and slept ."),
            pos=_words("IN PRP VBD PRP , NNP NNP POS NN VBD PRP RP CC VBD ."),
            tree=_t(
                "TOP",
                _t(
                    "S",
                    _t("SBAR", 0, _t("S", _t("NP", 1), _t("VP", 2, _t("NP", 3)))),
                    4,
                    _t("NP", _t("NP", 5, 6, 7), 8),
                    _t("VP", _t("VP", 9, _t("NP", 10), _t("PRT", 11)), 12, _t("VP", 13)),
                    14,
                ),
            ),
            lemmas=_at(15, {2: "like", 9: "give", 13: "sleep"}),
            framesets=_at(15, {2: "01", 9: "01", 13: "01"}),
            entities=(Span(5, 7, "PERSON"),),
            predicates=(
                Predicate(2, (Span(1, 2, "ARG0"), Span(2, 3, "V"), Span(3, 4, "ARG1"))),
                Predicate(
                    9,
                    (
                        Span(5, 9, "ARG0"),
                        Span(9, 10, "V"),
                        Span(10, 11, "ARG1"),
                        Span(11, 12, "C-V"),
                    ),
                ),
                Predicate(13, (Span(5, 9, "ARG0"), Span(13, 14, "V"))),
            ),
        ),
        Sentence(("In", "town"), ("IN", "NN"), _t("TOP", _t("PP", 0, _t("NP", 1)))),
        Sentence(
            words=("Her", "fee", "rose", "$", "5", "-LRB-", "10", "%", "-RRB-"),
            pos=("PRP$", "NN", "VBD", "$", "CD", "-LRB-", "CD", "NN", "-RRB-"),
            tree=_t(
                "TOP",
                _t(
                    "S",
                    _t("NP", 0, 1),
                    _t("VP", 2, _t("NP", 3, 4), _t("PRN", 5, _t("NP", 6, 7), 8)),
                ),
            ),
            entities=(Span(3, 5, "MONEY"),),
        ),
        Sentence(
            words=("Oslo", "waits", "."),
            pos=("NNP", "VBZ", "."),
            tree=_t("TOP", _t("S", _t("NP", 0), _t("VP", 1), 2)),
            entities=(Span(0, 1, "GPE"),),
        ),
    )
    chains = (
        (Mention(0, 0, 2), Mention(2, 1, 2), Mention(2, 5, 8), Mention(4, 0, 1)),
        (Mention(0, 3, 7), Mention(1, 1, 2), Mention(2, 3, 4), Mention(2, 10, 11)),
        (Mention(2, 8, 9),),
    )
    return Document(
        **{
            "id": "gum/news/story",
            "part": 2,
            "genre": "news",
            "sentences": sentences,
            "chains": chains,
            **changes,
        }
    )


def _t(label, *children):
    return Tree(label, children)


def _at(size, values):
    return tuple(values.get(n) for n in range(size))


def _words(text):
    return tuple(text.split())
