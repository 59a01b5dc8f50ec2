"""The words of the grammar in `jaxtask.demo.grammar`."""

from dataclasses import dataclass

WOMEN = ("Anna", "Clara", "Elsa", "Irene", "Maya", "Nora")
MEN = ("Adam", "Felix", "Hugo", "Jonas", "Oscar", "Victor")
FAMILIES = ("Brook", "Carver", "Dunn", "Ellis", "Frost", "Marsh", "Quinn", "Stone")
TOWNS = ("Avonlea", "Brigford", "Corwen", "Dalmere", "Marlow", "Ostby", "Tolvane", "Westbury")
ORGANISATIONS = (
    ("Northwind", "Bank"),
    ("Alder", "College"),
    ("Bluebell", "Company"),
    ("Granite", "Union"),
    ("Lantern", "Theater"),
    ("Meadow", "Club"),
)
BUILDINGS = (("Harbor", "Bridge"), ("Union", "Station"), ("Castle", "Museum"), ("King", "Tower"))
LANDSCAPES = (("Lake", "Miro"), ("Mount", "Sable"), ("Green", "Valley"), ("Stone", "River"))
EVENTS = (("Spring", "Fair"), ("Winter", "Games"), ("Moon", "Festival"), ("River", "Race"))
PRODUCTS = (("Solis", "Lamp"), ("Orbit", "Phone"), ("Swift", "Bicycle"), ("Polar", "Coat"))
WORKS = (("Silent", "Garden"), ("Golden", "Hour"), ("Paper", "Moon"), ("Winter", "Song"))
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("March", "April", "June", "August", "October")
ADJECTIVES = (
    "blue", "bright", "broken", "cheap", "heavy", "large", "little", "new", "old", "red", "small",
    "strange", "warm", "yellow",
)  # fmt: skip
SCENES = (
    (("air", "evening", "morning", "night", "sky"), ("bright", "calm", "cold", "dark", "warm")),
    (("garden", "road", "square", "street", "yard"), ("crowded", "empty", "loud", "quiet", "wet")),
)
PLACES = ("bench", "door", "gate", "hill", "wall", "window")
WAITING = (("waited", "wait"), ("worked", "work"), ("sang", "sing"), ("slept", "sleep"),
           ("smiled", "smile"), ("rested", "rest"), ("laughed", "laugh"))  # fmt: skip
SAYING = (("said", "say"), ("believed", "believe"), ("announced", "announce"))


@dataclass(frozen=True)
class Topic:
    """What documents of a genre are about: who is in them, their things, and what people do.

    Attributes:
        verbs: (past tense, lemma, kind of object).

    """

    occupations: tuple[str, ...]
    things: tuple[str, ...]
    verbs: tuple[tuple[str, str, str], ...]


_COMMON = (("met", "meet", "person"), ("visited", "visit", "town"), ("found", "find", "thing"))

TOPICS: dict[str, Topic] = {
    "news": Topic(
        ("mayor", "judge", "minister", "reporter"),
        ("letter", "plan", "report", "bill"),
        (
            *_COMMON,
            ("praised", "praise", "person"),
            ("signed", "sign", "thing"),
            ("rejected", "reject", "thing"),
            ("joined", "join", "organisation"),
            ("criticized", "criticize", "organisation"),
            ("opened", "open", "event"),
            ("closed", "close", "building"),
        ),
    ),
    "travel": Topic(
        ("driver", "guide", "pilot", "sailor"),
        ("bag", "boat", "map", "ticket"),
        (
            *_COMMON,
            ("followed", "follow", "person"),
            ("lost", "lose", "thing"),
            ("carried", "carry", "thing"),
            ("crossed", "cross", "landscape"),
            ("reached", "reach", "landscape"),
            ("left", "leave", "town"),
            ("photographed", "photograph", "building"),
        ),
    ),
    "sport": Topic(
        ("coach", "player", "runner", "swimmer"),
        ("ball", "cup", "medal", "shirt"),
        (
            *_COMMON,
            ("beat", "beat", "person"),
            ("trained", "train", "person"),
            ("won", "win", "event"),
            ("watched", "watch", "event"),
            ("dropped", "drop", "thing"),
            ("kept", "keep", "thing"),
            ("coached", "coach", "organisation"),
        ),
    ),
    "market": Topic(
        ("baker", "farmer", "fisher", "trader"),
        ("basket", "chair", "cheese", "table"),
        (
            *_COMMON,
            ("paid", "pay", "person"),
            ("bought", "buy", "thing"),
            ("sold", "sell", "thing"),
            ("repaired", "repair", "product"),
            ("ordered", "order", "product"),
            ("founded", "found", "organisation"),
            ("liked", "like", "event"),
        ),
    ),
    "art": Topic(
        ("dancer", "painter", "poet", "singer"),
        ("canvas", "mask", "picture", "violin"),
        (
            *_COMMON,
            ("admired", "admire", "person"),
            ("painted", "paint", "landscape"),
            ("played", "play", "work"),
            ("finished", "finish", "work"),
            ("wrote", "write", "work"),
            ("cleaned", "clean", "thing"),
            ("advised", "advise", "organisation"),
        ),
    ),
}
