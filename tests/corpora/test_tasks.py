"""Every task on the story, whose targets are worked out by hand, and on the real corpora."""

import re
from dataclasses import replace

import pytest

from corpora.story import story
from jaxtask.corpora import TASKS, Document, Mention, Predicate, Sentence, Span, load_tasks, task
from jaxtask.corpora.example import Dropped, Fit, examples
from jaxtask.corpora.tasks import find_tasks
from jaxtask.corpora.tasks.syntax import reduced
from jaxtask.corpora.tree import read_bracketed
from jaxtask.errors import TaskError

TEXT = (
    'Mary Poe visited the bank in Oslo on Monday. "It isn\'t old,". '
    "Because she liked it, Mary Poe's sister gave it up and slept. In town\n"
    "Her fee rose $5 (10%)\nOslo waits."
)
EXPECTED = {
    "coref": (
        "keep sentences with longest coreference chains and replace coreference with anchor.",
        # Four mentions each: Mary Poe; the bank in Oslo. The sister's chain has one only.
        'Mary Poe visited the bank in Oslo on Monday. "The bank in Oslo isn\'t old,". '
        "Because Mary Poe liked the bank in Oslo, Mary Poe's sister gave the bank in Oslo up and "
        "slept. Mary Poe's fee rose $5 (10%)",
    ),
    "coref-list": (
        "list the mentions of the longest coreference chains, one chain a line.",
        "Mary Poe = she = Mary Poe's = Her\nthe bank in Oslo = It = it = it",
    ),
    "srl": (
        "build sentences with only ARG0 VERB ARG1 ARGM-TMP.",
        "Mary Poe visited the bank in Oslo on Monday. She liked it. Mary Poe's sister gave up it.",
    ),
    "srl-list": (
        "list the ARG0, VERB, ARG1 and ARGM-TMP of each verb, one verb a line.",
        "ARG0: Mary Poe; VERB: visited; ARG1: the bank in Oslo; ARGM-TMP: on Monday\n"
        "ARG0: she; VERB: liked; ARG1: it\n"
        "ARG0: Mary Poe's sister; VERB: gave up; ARG1: it",
    ),
    "ner": (
        "keep only sentences containing at least one new Named Entity from the following "
        "categories: EVENT, FAC, GPE, LOC, ORG, PERSON, PRODUCT, WORK_OF_ART.",
        "Mary Poe visited the bank in Oslo on Monday.",
    ),
    "ner-list": (
        "list each Named Entity from the following categories once, with its category: EVENT, FAC, "
        "GPE, LOC, ORG, PERSON, PRODUCT, WORK_OF_ART.",
        "Mary Poe (PERSON); Oslo (GPE)",
    ),
    "syntax": (
        "remove PP and AD-SBAR syntagms.",
        "Mary Poe visited the bank. \"It isn't old,\". Mary Poe's sister gave it up and slept. "
        "Her fee rose $5 (10%)\nOslo waits.",
    ),
    "sum": ("summarize the document.", "Mary gives up a bank."),
    "first10-sent": (
        "keep the first 10% of the sentences.",
        "Mary Poe visited the bank in Oslo on Monday.",
    ),
    "last10-sent": ("keep the last 10% of the sentences.", "Oslo waits."),
    "every10-sent": (
        "keep one in every 10 sentences.",
        "Mary Poe visited the bank in Oslo on Monday.",
    ),
    "every2-sent": (
        "keep one in every 2 sentences.",
        "Mary Poe visited the bank in Oslo on Monday. "
        "Because she liked it, Mary Poe's sister gave it up and slept. Her fee rose $5 (10%)",
    ),
    "first10-word": ("keep the first 10% of the words.", "Mary Poe visited the"),
    "last10-word": ("keep the last 10% of the words.", "$5 (10%) Oslo waits."),
    "every10-word": ("keep one in every 10 words.", "Mary isn't it (10%)"),
    "every2-word": (
        "keep one in every 2 words.",
        'Mary visited bank Oslo Monday. isn\'t Because liked Mary sister it and In Her rose '
        "(10%) waits.",
    ),
    "genre": (TEXT, "news"),
    "has-gpe": (TEXT, "yes"),
    "has-org": (TEXT, "no"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_by_hand(name):
    assert TASKS[name].function(story(summary="Mary gives up a bank.")) == EXPECTED[name]


def test_every_task_is_here():
    with_same_function = {n for n in TASKS if n.startswith("has-")} - set(EXPECTED)
    assert set(TASKS) == set(EXPECTED) | with_same_function
    assert len(with_same_function) == 6


@pytest.mark.parametrize("size", [1, 9, 10, 11, 20, 41])
def test_counting(size):
    """Shares are rounded up; one in every k keeps the first of every k."""
    sentences = tuple(
        Sentence((f"W{n}", "and", "more", "."), ("NN", "CC", "JJR", ".")) for n in range(size)
    )
    document = Document("x", 0, None, sentences)
    names = [f"W{n}" for n in range(size)]
    tenth = -(-size // 10)

    def kept(task_name):
        return re.findall(r"W\d+", TASKS[task_name].function(document)[1])

    assert kept("first10-sent") == names[:tenth]
    assert kept("last10-sent") == names[size - tenth :]
    assert kept("every10-sent") == [n for i, n in enumerate(names) if i % 10 == 0]
    assert kept("every2-sent") == [n for i, n in enumerate(names) if i % 2 == 0]
    words = document.text.split()
    assert len(words) == 3 * size
    share = -(-len(words) // 10)
    for name, expected in {
        "first10-word": words[:share],
        "last10-word": words[len(words) - share :],
        "every10-word": [w for i, w in enumerate(words) if i % 10 == 0],
        "every2-word": [w for i, w in enumerate(words) if i % 2 == 0],
    }.items():
        assert TASKS[name].function(document)[1].split(" ") == expected


def parsed(line):
    """A sentence from a bracketed line."""
    pos, words = zip(*re.findall(r"\((\S+) ([^\s()]+)\)", line), strict=True)
    return Sentence(words, pos, read_bracketed(line, words)[0])


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (  # A clause with "that" is no adverbial; what is in it is looked at.
            "(S (NP (PRP He)) (VP (VBD said) (SBAR (IN that) (S (NP (PRP it)) (VP (VBD rained) "
            "(PP (IN in) (NP (NNP May))))))) (. .))",
            "He said that it rained.",
        ),
        (  # An indirect question, and the same clause as an adverbial.
            "(S (NP (PRP We)) (VP (VBD asked) (SBAR (IN if) (S (NP (PRP he)) (VP (VBD left))))) "
            "(. .))",
            "We asked if he left.",
        ),
        (
            "(S (NP (PRP We)) (VP (VBD sang) (SBAR (IN if) (S (NP (PRP he)) (VP (VBD left))))) "
            "(. .))",
            "We sang.",
        ),
        (  # A relative clause stays.
            "(NP (NP (DT The) (NN day)) (SBAR (WHADVP (WRB when)) (S (NP (PRP he)) "
            "(VP (VBD left)))))",
            "The day when he left",
        ),
        (  # Function tags decide where there are any.
            "(S (SBAR-SBJ (IN That) (S (NP (PRP he)) (VP (VBD left)))) (VP (VBD hurt) "
            "(SBAR-ADV (RB so) (S (NP (PRP they)) (VP (VBD cried))))) (. .))",
            "That he left hurt.",
        ),
        (  # An adverb phrase around a clause goes with it; commas on both sides go.
            "(S (NP (PRP They)) (, ,) (ADVP (ADVP (RB as) (RB soon)) (SBAR (IN as) "
            "(S (NP (PRP he)) (VP (VBD left))))) (, ,) (VP (VBD cried)) (. .))",
            "They cried.",
        ),
        (  # The commas of a list stay.
            "(NP (NP (NP (NN Bread)) (PP (IN from) (NP (NNP Spain)))) (, ,) (NP (NN wine)) (, ,) "
            "(CC and) (NP (NN tea)) (. .))",
            "Bread, wine, and tea.",
        ),
        (  # Brackets, quotes and conjunctions with nothing left go.
            "(S (NP (PRP He)) (VP (VBD sang) (PRN (-LRB- -LRB-) (PP (IN in) (NP (NNP May))) "
            "(-RRB- -RRB-)) (CC and) (`` ``) (PP (IN in) (NP (NNP June))) ('' '')) (. .))",
            "He sang.",
        ),
        (
            "(S (PP (IN In) (NP (NNP May))) (, ,) (NP (PRP he)) (VP (VBD sang)) (. .))",
            "He sang.",
        ),
        (
            "(S (NP (PRP He)) (VP (VBD sang) (PP (IN in) (`` ``) (NP (NNP May))) (NP (NNS songs))) "
            "('' '') (. .))",
            "He sang songs.",
        ),
        (
            "(S (`` ``) (PP (IN In) (NP (NNP May))) (NP (PRP he)) (VP (VBD sang)) ('' ''))",
            '"He sang"',
        ),
        ("(FRAG (PP (IN In) (NP (NNP May))) (. .))", ""),
        (  # One half of a pair goes with the other.
            "(S (NP (PRP He)) (VP (VBD sang) (PP (IN about) (`` ``) (NP (NN love)))) "
            "('' '') (. .))",
            "He sang.",
        ),
        (
            "(S (LS 1) (. .) (PP (IN In) (NP (NNP May))) (, ,) (NP (PRP he)) "
            "(VP (VBD sang)) (. .))",
            "1. he sang.",
        ),
        # The author's own oddities stay.
        ("(S (NP (PRP he)) (, ,) (VP (VBD sang)) (. .))", "he, sang."),
        ("(S (NP (PRP he)) (, ,) (VP (VBD sang) (PP (IN in) (NP (NNP May)))) (. .))", "he, sang."),
    ],
)
def test_syntax(line, left):
    assert reduced(parsed(line)) == left


def test_syntax_needs_every_tree():
    document = story()
    bare = replace(document.sentences[0], tree=None)
    assert not replace(document, sentences=(bare, *document.sentences[1:])).has("parse")


def tagged(text, **fields):
    """A sentence from words with their tags."""
    words, pos = zip(*(x.rsplit("/", 1) for x in text.split()), strict=True)
    return Sentence(words, pos, **fields)


def test_anchor_and_what_refers_back():
    """The anchor ends before a comma; names, indefinites and relative pronouns stay."""
    first = tagged("The/DT guests/NNS ,/, who/WP came/VBD ,/, left/VBD ./.")
    second = tagged("Their/PRP$ dogs/NNS barked/VBD at/IN the/DT men/NNS ./.")
    third = tagged("As/IN a/DT group/NN the/DT Poes/NNPS laughed/VBD at/IN them/PRP ./.")
    chain = (
        Mention(0, 0, 5), Mention(0, 3, 4), Mention(1, 0, 1), Mention(1, 4, 6), Mention(2, 1, 3),
        Mention(2, 3, 5), Mention(2, 7, 8),
    )  # fmt: skip
    document = Document("x", 0, None, (first, second, third), (chain,))
    assert TASKS["coref"].function(document)[1] == (
        "The guests, who came, left. The guests' dogs barked at the guests. "
        "As a group the Poes laughed at the guests."
    )


def test_chains_without_a_noun_have_no_anchor():
    one = tagged("I/PRP know/VBP my/PRP$ dog/NN ./.")
    speaker, dog = (
        (Mention(0, 0, 1), Mention(0, 2, 3), Mention(1, 0, 1)),
        (Mention(0, 2, 4), Mention(1, 2, 3)),
    )
    two = tagged("I/PRP like/VBP it/PRP ./.")
    document = Document("x", 0, None, (one, two), (speaker, dog))
    assert TASKS["coref"].function(document)[1] == "I know my dog. I like my dog."
    assert TASKS["coref"].function(replace(document, chains=(speaker,)))[1] == ""


def test_roles_of_a_passive_and_of_a_noun():
    """The agent without its preposition; frames of nouns are left out."""
    one = tagged(
        "Yesterday/NN the/DT plan/NN was/VBD read/VBN by/IN a/DT judge/NN ./.",
        predicates=(
            Predicate(
                4, (Span(0, 1, "ARGM-TMP"), Span(1, 3, "ARG1"), Span(4, 5, "V"), Span(5, 8, "ARG0"))
            ),
            Predicate(2, (Span(2, 3, "V"), Span(7, 8, "ARG0"), Span(1, 2, "ARG1"))),
        ),
    )
    document = Document("x", 0, None, (one,))
    assert TASKS["srl"].function(document)[1] == "A judge read the plan yesterday."


def test_an_anchor_is_no_possessive():
    one = tagged("Ann/NNP 's/POS dog/NN barked/VBD ./.")
    two = tagged("She/PRP left/VBD her/PRP$ house/NN ./.")
    chain = (Mention(0, 0, 2), Mention(1, 0, 1), Mention(1, 2, 3))
    document = Document("x", 0, None, (one, two), (chain,))
    assert TASKS["coref"].function(document)[1] == "Ann's dog barked. Ann left Ann's house."


def test_only_the_longest_chains():
    one = tagged("Ann/NNP saw/VBD Bob/NNP ./.")
    two = tagged("He/PRP left/VBD ./.")
    three = tagged("She/PRP knew/VBD her/PRP$ way/NN ./.")
    ann = (Mention(0, 0, 1), Mention(2, 0, 1), Mention(2, 2, 3))
    bob = (Mention(0, 2, 3), Mention(1, 0, 1))
    document = Document("x", 0, None, (one, two, three), (ann, bob))
    assert TASKS["coref"].function(document)[1] == "Ann saw Bob. Ann knew Ann's way."
    assert TASKS["coref-list"].function(document)[1] == "Ann = She = her"


def test_entities_are_new_by_their_letters():
    one = tagged("The/DT Alder/NNP Club/NNP 's/POS hall/NN", entities=(Span(0, 4, "ORG"),))
    two = tagged(
        "ALDER/NNP CLUB/NNP and/CC May/NNP", entities=(Span(0, 2, "GPE"), Span(3, 4, "DATE"))
    )
    three = tagged("\"/`` Alder/NNP \"/''", entities=(Span(0, 3, "ORG"),))
    document = Document("x", 0, None, (one, two, three))
    assert TASKS["ner"].function(document)[1] == 'The Alder Club\'s hall\n"Alder"'
    assert TASKS["ner-list"].function(document)[1] == "Alder Club (ORG); Alder (ORG)"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gum", "ewt"])
def test_real_documents_read_like_english(corpus, name):
    """No target has the defects that removing and replacing words could make."""
    bad = re.compile(r" [,.;](\s|$)|,,|\(\s*\)|-LRB-| n't|(^|\s),|  ")
    made = 0
    for document in corpus(name)[1][::12]:
        for known in TASKS.values():
            if all(document.has(layer) for layer in known.needs):
                first, second = known.function(document)
                made += bool(second)
                if known.kind == "text":
                    assert first == known.function(story(summary="x"))[0]
                    if not bad.search(document.text) and not known.name.endswith("-word"):
                        assert not bad.search(second), (document.id, known.name)
    assert made > 80


@pytest.fixture
def registered():
    """Forget what a test registers."""
    before = dict(TASKS)
    yield
    TASKS.clear()
    TASKS.update(before)


def test_own_tasks(tmp_path, registered):
    @task("shout", needs="parse")
    def shout(document):
        """Upper case.

        More."""
        return "shout.", document.text.upper()

    assert shout(story()) == ("shout.", TEXT.upper())
    (found,) = find_tasks(["shout"])
    assert (found.summary, found.needs, found.kind) == ("Upper case.", ("parse",), "text")
    with pytest.raises(TaskError, match="a task named 'shout' already"):
        task("shout")(shout)
    path = tmp_path / "mine.py"
    path.write_text(
        "from jaxtask.corpora import task\n"
        "@task('long', kind='classification', labels=('no', 'yes'))\n"
        "def long(document):\n    return document.text, 'yes'\n"
    )
    load_tasks(path)
    assert find_tasks(["long"])[0].labels == ("no", "yes")
    with pytest.raises(TaskError, match="no such file of tasks"):
        load_tasks(tmp_path / "none.py")


@pytest.mark.parametrize("name", ["", ".x", "a/b", "-a", "a\nb", "é" * 200, 7])
def test_names_that_are_no_folders(name):
    with pytest.raises(TaskError, match=r"task name .*expected"):
        task(name)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"kind": "regression"}, "kind is 'regression', expected one of text, classification"),
        ({"unit": "word"}, "unit is 'word', expected one of document, sentence"),
        ({"needs": "words"}, "needs is 'words', expected one of parse, "),
        ({"needs": ["parse", 3]}, "needs is 3"),
        ({"labels": "yes"}, "labels is 'yes', expected a list of texts"),
        ({"labels": [1, 2]}, r"labels is \[1, 2\], expected a list of texts"),
    ],
)
def test_arguments_that_are_none(arguments, what, registered):
    with pytest.raises(TaskError, match=f"task 'mine': {what}"):
        task("mine", **arguments)


GOOD = "from jaxtask.corpora import task\n@task('mine')\ndef mine(document):\n    return 'a', 'b'\n"


@pytest.mark.parametrize(
    ("more", "where", "what"),
    [
        ("def (", "line 5", "is not valid Python: 'invalid syntax'"),
        ("x = 'abc", "line 5", "is not valid Python: 'unterminated string"),
        ("\n\n1 / 0", "line 7", "ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name", "line 5", "ModuleNotFoundError"),
        ("task('mine')(mine)", "line 5", "there is a task named 'mine' already"),
        ("task('a/b')", "line 5", "task name 'a/b'"),
        ("raise SystemExit(3)", "line 5", "SystemExit: 3"),
        ("raise KeyError('a\\nb' * 999)", "line 5", "KeyError"),
        ("def f():\n    f()\nf()", "line 6", "RecursionError"),
        ("import json\njson.loads('{')", "line 6", "JSONDecodeError"),
        ("(" * 999, "line", "is not valid Python"),
        ("x = '\0'", "own.py", "null byte"),
    ],
)
def test_files_of_tasks_that_fail(more, where, what, tmp_path, registered):
    path = tmp_path / "own.py"
    path.write_text(GOOD + more)
    before = dict(TASKS)
    with pytest.raises(TaskError, match=what) as error:
        load_tasks(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert where in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))
    assert before == TASKS
    path.write_text(GOOD)
    load_tasks(path)
    assert "mine" in TASKS


def test_files_of_tasks_in_another_encoding(tmp_path):
    path = tmp_path / "own.py"
    path.write_bytes(b"x = 1\ny = '\xe9'\n")
    with pytest.raises(TaskError, match=r"own\.py.*is not valid Python"):
        load_tasks(path)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return document.nothing", r"own\.py, line 4: task 'mine', document .*AttributeError"),
        ("return helper()", r"own\.py, line 4: .*NameError"),
        ("raise SystemExit", r"own\.py, line 4: .*SystemExit"),
        ("import json; json.loads('{')", r"own\.py, line 4: .*JSONDecodeError"),
        ("return 'a'", "'gum/news/story': the function returned 'a', expected two texts"),
        ("return 'a', None", "expected two texts"),
        ("return 'a', chr(0xd800)", "expected two texts"),
        ("return ['x' * 10**6] * 2", "expected two texts"),
    ],
)
def test_tasks_of_somebody_else_that_fail(body, what, tmp_path, registered):
    path = tmp_path / "own.py"
    path.write_text(GOOD.replace("return 'a', 'b'", body))
    load_tasks(path)
    with pytest.raises(TaskError, match=what) as error:
        list(examples(TASKS["mine"], story(), Fit()))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


def test_our_own_faults_show_where_they_are():
    """What one of our tasks raises is no fault of the user's."""
    broken = replace(TASKS["syntax"], needs=())
    bare = story(broken={"parse": "a.conll, line 1: x"})
    with pytest.raises(AssertionError):
        list(examples(broken, bare, Fit()))


def test_nothing_is_made_of_white_space():
    blank = Document("x", 0, None, (Sentence(("\u3000",), ("NN",)),))
    (found,) = examples(TASKS["first10-sent"], blank, Fit())
    assert found == Dropped("nothing to read: the text is empty")


def test_words_keep_their_no_break_spaces():
    words = ("a\u00a0b", "c\u3000d", "e\u2028f", "g\u0085h", "i")
    document = Document("x", 0, None, (Sentence(words, ("NN",) * 5),))
    assert document.text == " ".join(words)
    assert TASKS["every2-word"].function(document)[1] == " ".join(words[::2])
    assert TASKS["last10-sent"].function(document)[1] == document.text


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["corf"], "unknown task 'corf'; did you mean 'coref'"),
        (["ner", "srl", "ner"], "'ner' is given twice"),
        ([], "no task is given"),
    ],
)
def test_choices_that_fail(names, what):
    with pytest.raises(TaskError, match=what):
        find_tasks(names)
