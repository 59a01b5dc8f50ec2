"""Small annotated documents from a grammar of our own, so that they are free to ship."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from jaxtask.corpora.conll_write import write_conll
from jaxtask.corpora.detokenise import detokenise
from jaxtask.corpora.document import Document, Mention, Sentence, chains_of
from jaxtask.corpora.files import new_file
from jaxtask.demo import lexicon
from jaxtask.demo.phrase import Phrase, names, phrase, spell, word
from jaxtask.errors import CorpusError

_SUBORDINATORS = (
    ("because", "ARGM-CAU"),
    ("although", "ARGM-ADV"),
    ("when", "ARGM-TMP"),
    ("before", "ARGM-TMP"),
    ("after", "ARGM-TMP"),
    ("while", "ARGM-TMP"),
)


def generate(
    count: int, seed: int = 0, start: int = 0, sentences: tuple[int, int] = (4, 12)
) -> Iterator[Document]:
    """Documents number `start` to ``start + count`` of the endless corpus of a seed.

    Each tells of two people, an organisation and a town, in one of five genres, with parse, named
    entities, coreference, semantic roles and a summary. A document depends on the seed, its number
    and `sentences` (the fewest and the most of them) only, so that splits are slices.
    """
    for number in range(start, start + count):
        story = _Story(Random(f"jaxtask {seed} {number}"))
        yield story.document(f"{seed}_{number:05d}", sentences)


def write_corpus(
    folder: str | Path,
    seed: int = 0,
    *,
    train: int = 200,
    dev: int = 20,
    test: int = 20,
    sentences: tuple[int, int] = (4, 12),
) -> None:
    """Write ``train.conll``, ``dev.conll``, ``test.conll`` and ``summaries.jsonl`` into a folder.

    Raises:
        CorpusError: A file cannot be written.

    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(f"{folder}: cannot be written: {error}") from error
    start = 0
    with new_file(folder / "summaries.jsonl") as file:
        for split, count in (("train", train), ("dev", dev), ("test", test)):
            documents = list(generate(count, seed, start, sentences))
            write_conll(documents, folder / f"{split}.conll")
            for d in documents:
                line = json.dumps({"document_id": d.id, "summary": d.summary})
                file.write(f"{line}\n".encode())
            start += count


@dataclass(frozen=True)
class _Member:
    """Someone or something that the story comes back to.

    Attributes:
        pronouns: Subject, object, possessive.

    """

    key: str
    category: str
    name: tuple[str, ...]
    short: tuple[str, ...]
    description: str
    pronouns: tuple[str, str, str]


class _Story:
    """One document in the making."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.genre = rng.choice(sorted(lexicon.TOPICS))
        self.topic = lexicon.TOPICS[self.genre]
        jobs = rng.sample(self.topic.occupations, 2)
        families = rng.sample(lexicon.FAMILIES, 2)
        she, he = ("she", "her", "her"), ("he", "him", "his")
        people = [
            (rng.choice(lexicon.WOMEN), she),
            (rng.choice(lexicon.MEN), he),
        ]
        rng.shuffle(people)
        self.hero, self.other = (
            _Member(key, "PERSON", (first, family), (family,), job, pronouns)
            for key, (first, pronouns), family, job in zip(
                ("hero", "other"), people, families, jobs, strict=True
            )
        )
        name = rng.choice(lexicon.ORGANISATIONS)
        it = ("it", "it", "its")
        self.group = _Member("group", "ORG", name, name, name[1].lower(), it)
        town = (rng.choice(lexicon.TOWNS),)
        self.town = _Member("town", "GPE", town, town, "town", it)
        self.known: set[str] = set()
        self.frames = 0
        self.deeds: list[str] = []

    def document(self, id: str, fewest_most: tuple[int, int]) -> Document:
        """The whole document."""
        size = self.rng.randint(*fewest_most)
        sentences: list[Sentence] = []
        mentions: list[tuple[object, Mention]] = []
        for n in range(size):
            sentence, found = spell(phrase("TOP", self.sentence(n)))
            sentences.append(sentence)
            mentions += [(chain, Mention(n, start, end)) for chain, start, end in found]
        chains = tuple(chain for chain in chains_of(mentions) if len(chain) > 1)
        deeds = " and later ".join(dict.fromkeys((self.deeds[0], self.deeds[-1])))
        return Document(
            id=f"grammar/{self.genre}/{id}",
            part=0,
            genre=self.genre,
            sentences=tuple(sentences),
            chains=chains,
            summary=f"{' '.join(self.hero.name)} {deeds}.",
        )

    def sentence(self, n: int) -> Phrase:
        """One sentence. The first two are about the hero."""
        self.frames = 0
        stop = word(".", ".")
        kind = self.rng.random()
        if n >= 2 and kind < 0.22:
            return phrase("S", *self.scene().children, stop)
        if n >= 2 and kind < 0.34:
            return phrase("S", *self.report().children, stop)
        if n >= 2 and kind < 0.46:
            return phrase("S", *self.waiting(self.subject()).children, stop)
        actor = self.hero if n < 2 else self.subject()
        begin, clause = self.action(actor, adorned=True)
        return phrase("S", *begin, *clause.children, stop)

    def subject(self) -> _Member:
        return self.rng.choices((self.hero, self.other, self.group), (6, 3, 1))[0]

    def frame(self) -> int:
        self.frames += 1
        return self.frames

    def action(self, actor: _Member, adorned: bool) -> tuple[tuple[Phrase, ...], Phrase]:
        """What stands before the clause, and the clause: someone does something to something."""
        past, lemma, kind = self.rng.choice(self.topic.verbs)
        frame = self.frame()
        # In the order of the text, so that names come before pronouns.
        before = self.opening(frame, actor) if adorned else ()
        subject = self.mention(actor, 0).role(frame, "ARG0")
        thing, plain = self.object(kind, actor)
        after: list[Phrase] = []
        if adorned:
            if self.rng.random() < 0.4:
                after.append(self.place(kind).role(frame, "ARGM-LOC"))
            if not before and self.rng.random() < 0.5:
                after.append(self.time().role(frame, "ARGM-TMP"))
            if not before and self.rng.random() < 0.3:
                after.append(self.subordinate(frame, actor))
            if actor is self.hero:
                self.deeds.append(f"{past} {plain}")
        verb = _verb("VBD", past, lemma, frame)
        predicate = phrase("VP", verb, thing.role(frame, "ARG1"), *after)
        return before, phrase("S", subject, predicate)

    def opening(self, frame: int, actor: _Member) -> tuple[Phrase, ...]:
        """What may stand before a clause: a time, or an adverbial clause."""
        chance = self.rng.random()
        if chance < 0.15:
            return self.time().role(frame, "ARGM-TMP"), word(",", ",")
        if chance < 0.3:
            return self.subordinate(frame, actor), word(",", ",")
        return ()

    def subordinate(self, frame: int, actor: _Member) -> Phrase:
        """An adverbial clause, which fills a role of the main one."""
        text, role = self.rng.choice(_SUBORDINATORS)
        if self.rng.random() < 0.4:
            clause = self.scene()
        else:
            other = self.other if actor is self.hero else self.hero
            clause = self.waiting(other) if text == "while" else self.action(other, False)[1]
        opening = phrase("WHADVP", word("WRB", text)) if text == "when" else word("IN", text)
        return phrase("SBAR", opening, clause).role(frame, role)

    def waiting(self, actor: _Member) -> Phrase:
        """Someone does something that needs no object."""
        past, lemma = self.rng.choice(lexicon.WAITING)
        frame = self.frame()
        after = [self.spot().role(frame, "ARGM-LOC")] if self.rng.random() < 0.5 else []
        if self.rng.random() < 0.7:
            after.append(self.time().role(frame, "ARGM-TMP"))
        subject = self.mention(actor, 0).role(frame, "ARG0")
        return phrase("S", subject, phrase("VP", _verb("VBD", past, lemma, frame), *after))

    def report(self) -> Phrase:
        """Someone says something: a clause that is no adverbial."""
        actor = self.subject()
        past, lemma = self.rng.choice(lexicon.SAYING)
        frame = self.frame()
        subject = self.mention(actor, 0).role(frame, "ARG0")
        said = self.action(self.other if actor is not self.other else self.hero, False)[1]
        content = phrase("SBAR", word("IN", "that"), said).role(frame, "ARG1")
        return phrase("S", subject, phrase("VP", _verb("VBD", past, lemma, frame), content))

    def scene(self) -> Phrase:
        """How something was: no entity of the story, unless it says where."""
        frame = self.frame()
        nouns, states = self.rng.choice(lexicon.SCENES)
        noun, state = self.rng.choice(nouns), self.rng.choice(states)
        after = [self.spot().role(frame, "ARGM-LOC")] if self.rng.random() < 0.3 else []
        subject = phrase("NP", word("DT", "the"), word("NN", noun)).role(frame, "ARG1")
        how = phrase("ADJP", word("JJ", state)).role(frame, "ARG2")
        return phrase("S", subject, phrase("VP", _verb("VBD", "was", "be", frame), how, *after))

    def mention(self, member: _Member, case: int) -> Phrase:
        """A noun phrase for a member of the cast: by name, then mostly by pronoun."""
        known = member.key in self.known
        self.known.add(member.key)
        chance = self.rng.random()
        if not known:
            made = self.introduction(member, case)
        elif chance < 0.55:
            made = phrase("NP", word("PRP", member.pronouns[case]))
        elif chance < 0.75:
            made = phrase("NP", word("DT", "the"), word("NN", member.description))
        else:
            made = phrase("NP", *names(member.short), entity=member.category)
        return replace(made, chain=member.key)

    def introduction(self, member: _Member, case: int) -> Phrase:
        """The first mention: a name, and for people what they do, which later mentions go by."""
        name = phrase("NP", *names(member.name), entity=member.category)
        if member.category != "PERSON":
            return name
        job = word("NN", member.description)
        if case == 0:
            comma = word(",", ",")
            return phrase("NP", name, comma, phrase("NP", word("DT", "a"), job), comma)
        return phrase("NP", word("DT", "the"), job, replace(name, label="NML"))

    def object(self, kind: str, actor: _Member) -> tuple[Phrase, str]:
        """A noun phrase of a kind, and its text with a name for a pronoun."""
        if kind == "person":
            member = self.other if actor is self.hero else self.hero
        elif kind == "town" or (kind == "organisation" and actor is self.group):
            member = self.town
        elif kind == "organisation":
            member = self.group
        elif kind == "thing":
            made = self.thing(actor)
            return made, detokenise(made.words())
        else:
            made = self.named(kind)
            return made, detokenise(made.words())
        return self.mention(member, 1), " ".join(member.name)

    def named(self, kind: str) -> Phrase:
        """Something with a name, which the story does not come back to."""
        category, choices = {
            "building": ("FAC", lexicon.BUILDINGS),
            "landscape": ("LOC", lexicon.LANDSCAPES),
            "event": ("EVENT", lexicon.EVENTS),
            "product": ("PRODUCT", lexicon.PRODUCTS),
            "work": ("WORK_OF_ART", lexicon.WORKS),
        }[kind]
        chosen = names(self.rng.choice(choices))
        article = () if kind in ("landscape", "work") else (word("DT", "the"),)
        return phrase("NP", *article, *chosen, entity=category)

    def thing(self, owner: _Member) -> Phrase:
        """A thing, with an owner, an adjective or a prepositional phrase."""
        noun = word("NN", self.rng.choice(self.topic.things))
        adjective = word("JJ", self.rng.choice(lexicon.ADJECTIVES))
        if self.rng.random() < 0.35:
            own = replace(word("PRP$", owner.pronouns[2]), chain=owner.key)
            return phrase("NP", own, adjective, noun)
        plain = phrase("NP", word("DT", self.rng.choice(("a", "the"))), noun)
        if self.rng.random() < 0.5:
            return phrase("NP", plain.children[0], adjective, noun)
        other = phrase("NP", word("DT", "the"), word("NN", self.rng.choice(lexicon.PLACES)))
        return phrase("NP", plain, phrase("PP", word("IN", "behind"), other))

    def place(self, kind: str) -> Phrase:
        """Where: in the town or near something, but not in what the clause is about."""
        if kind == "town" or self.rng.random() < 0.5:
            return self.spot()
        return phrase("PP", word("IN", "in"), self.mention(self.town, 1))

    def spot(self) -> Phrase:
        if self.rng.random() < 0.4:
            named = self.named(self.rng.choice(("building", "landscape")))
            return phrase("PP", word("IN", "near"), named)
        noun = phrase("NP", word("DT", "the"), word("NN", self.rng.choice(lexicon.PLACES)))
        return phrase("PP", word("IN", self.rng.choice(("at", "by"))), noun)

    def time(self) -> Phrase:
        """When: a named day or month, or a plain word."""
        chance = self.rng.random()
        if chance < 0.4:
            day = phrase("NP", *names((self.rng.choice(lexicon.DAYS),)), entity="DATE")
            return phrase("PP", word("IN", "on"), day)
        if chance < 0.6:
            month = phrase("NP", *names((self.rng.choice(lexicon.MONTHS),)), entity="DATE")
            return phrase("PP", word("IN", "in"), month)
        if chance < 0.8:
            return phrase("NP", word("NN", "yesterday"), entity="DATE")
        week = self.rng.choice(("week", "year"))
        return phrase("NP", word("JJ", "last"), word("NN", week), entity="DATE")


def _verb(pos: str, text: str, lemma: str, frame: int) -> Phrase:
    """A verb, which its frame is about."""
    return replace(word(pos, text), lemma=lemma, frameset="01").role(frame, "V")
