import re

import pytest

from jaxtask.corpora import detokenise
from jaxtask.corpora.detokenise import join_sentences


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("Do n't go , Anna !", "Don't go, Anna!"),
        ("I 'm sure he 's here ; they 'll come .", "I'm sure he's here; they'll come."),
        ("You can not say it can not only rain .", "You cannot say it can not only rain."),
        ("He is gon na do it .", "He is gonna do it."),
        ("A list -LRB- of two -RRB- : a , b .", "A list (of two): a, b."),
        ("see -LSB- 3 -RSB- and -LCB- x -RCB-", "see [3] and {x}"),
        ("`` Well , '' he said , `` so ? ''", '"Well," he said, "so?"'),
        ('" Well , " he said , " so ? "', '"Well," he said, "so?"'),
        ("It cost $ 5 , not € 3.50 or US$ 2 .", "It cost $5, not €3.50 or US$2."),
        ("Up 3 % in the U.S. .", "Up 3% in the U.S."),
        ("Rooms , etc. . ''", 'Rooms, etc."'),
        ("either / or", "either/or"),
        ("Wait ... what ?", "Wait... what?"),
        ("On /. and on /?", "On. and on?"),
        ("rock & roll -- loud", "rock & roll -- loud"),
        ("AT&T 's 4:30 show", "AT&T's 4:30 show"),
        ("", ""),
    ],
)
def test_without_parts_of_speech(words, text):
    assert detokenise(words.split()) == text


@pytest.mark.parametrize(
    ("tagged", "text"),
    [
        (
            "the/DT students/NNS '/POS well/RB -/HYPH known/VBN song/NN",
            "the students' well-known song",
        ),
        ("a/DT -/: b/DT", "a - b"),
        ("pre/AFX -/HYPH and/CC post/AFX -/HYPH war/NN", "pre- and post-war"),
        ("he/PRP said/VBD \"/`` no/UH \"/''", 'he said "no"'),
        ("'/`` so/RB '/'' it/PRP goes/VBZ", "'so' it goes"),
        ("“/`` so/RB ”/'' it/PRP", "“so” it"),
        ("we/PRP do/VBP nt/RB know/VB", "we dont know"),
        ("lets/VB m/NN", "lets m"),
        ("it/PRP s/VBZ here/RB", "its here"),
        ("pages/NNS 3/CD –/SYM 9/CD", "pages 3–9"),
        ("nice/JJ :)/NFP ;)/NFP", "nice :) ;)"),
        ("#/NN 1/CD", "#1"),
    ],
)
def test_with_parts_of_speech(tagged, text):
    pairs = [t.rsplit("/", 1) if not t.endswith("''") else (t[:-3], "''") for t in tagged.split()]
    assert detokenise(*zip(*pairs, strict=True)) == text


def test_sentences_after_one_another():
    texts = ["A heading", "", "One.", 'He said "two!"', "(Three.)", "[3]", "four", "Five"]
    assert join_sentences(texts) == 'A heading\nOne. He said "two!" (Three.) [3] four\nFive'
    assert join_sentences([]) == ""


DEFECTS = {
    "space before punctuation": r" [,;](?![-DP)(])| [.?!](\s|$)| :\s",
    "split contraction": r"\b\w+ n['’]t\b| ['’](s|re|ve|ll|d|m)\b|\bca nt\b",
    "escaped bracket": r"-[LR][RSC]B-",
    "space inside brackets": r"(?<!:)[(\[] | [)\]]",
    "split amount": r"\d %|[$€£] \d",
    "backticks": r"``|''",
    "lone quote": r'(^| )" ',
    "split slash": r" / ",
    "doubled spaces": r"  |^ | $",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gum", pytest.param("ewt", marks=pytest.mark.slow)])
@pytest.mark.parametrize("defect", DEFECTS)
def test_real_corpora_have_no(corpus, name, defect):
    texts = [s.text for d in corpus(name)[1] for s in d.sentences]
    found = [t for t in texts if re.search(DEFECTS[defect], t)]
    # One writer put a question mark after a comma instead of a bracket.
    found = [t for t in found if ",? gas suppliers ,?" not in t]
    assert found == []


@pytest.mark.parametrize("name", ["gum", pytest.param("ewt", marks=pytest.mark.slow)])
def test_real_corpora_keep_every_letter(corpus, name):
    def letters(text):
        return re.sub(r"[^\w]", "", text)

    for document in corpus(name)[1]:
        for s in document.sentences:
            raw = [w for w in s.words if w not in ("-LRB-", "-RRB-")]
            assert letters(s.text) == letters("".join(raw))
