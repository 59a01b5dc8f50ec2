"""Tokenizers: opened as their files say, and used so that data is never read as control tokens.

A control token is one that means something to a model beside its text: every special token, and
every other added token that the chat template names or that is written as a marker, in brackets. In
text that came from data, what looks like one is text. For that a second tokenizer is made in which
control tokens have other names, that no text has; a template's own ones are renamed before the text
is given to it. So all else is read as ever: normalisation, the spaces around tokens, and merges
over the borders of pieces.
"""

import json
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxtask.errors import DataError, shown
from jaxtask.finetune.data.chat import Conversation, render
from jaxtask.finetune.data.gguf_tokenizer import read_gguf_tokenizer
from jaxtask.finetune.foreign import is_fault, said, silent
from jaxtask.names import check_path
from jaxtask.text_files import parse_json, read_text

_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"
_MARKER = re.compile(r"<.*>|\[.*\]|\{.*\}", re.DOTALL)
# What stands before a text that is tokenised as the continuation of another: see `continued`.
_ANCHORS = ("\n", '"', "#", "~", ".")


def open_tokenizer(path: str | os.PathLike[str]) -> Any:
    """The tokenizer in a folder or the local cache, by `transformers.AutoTokenizer`, or in a GGUF.

    Nothing is downloaded and no code of the folder is run. Where there is a ``tokenizer.json``, the
    ids are those that it says, whatever class the tokenizer is called.

    Raises:
        DataError: There is no tokenizer, or it cannot be used.

    """
    if Path(path).suffix == ".gguf":
        return read_gguf_tokenizer(Path(path))
    _check_merges(path)
    tokenizer = _opened(path)
    _as_its_file_says(tokenizer, path)
    # Where a vocabulary's files are missing, transformers makes a tokenizer that knows no text.
    if not _plainly(tokenizer, "a", path):
        raise DataError(f"{path}: the tokenizer there has no vocabulary: it makes no token of 'a'")
    return tokenizer


def decode(tokenizer: Any, tokens: Sequence[int] | np.ndarray) -> str:
    """Generated tokens as text: without special tokens, negative ids and white space around it."""
    kept = [int(token) for token in tokens if token >= 0]
    return tokenizer.decode(kept, skip_special_tokens=True).strip()


class Tokens:
    """A tokenizer of transformers, for data and for what templates make of it.

    Raises:
        DataError: It has no fast form, or cannot be rebuilt.

    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.name = str(tokenizer.name_or_path) or type(tokenizer).__name__
        self.template = chat_template(tokenizer)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(
                f"{self.name}: its tokenizer has no fast form ({_FILE}), which is needed here"
            )
        fields = json.loads(backend.to_str())
        self.control = _control(fields, tokenizer, self.template)
        """Token → id."""
        nonce = secrets.token_hex(8)
        self._coded = {token: f"<|{nonce}:{n}|>" for token, n in self.control.items()}
        self._masked = {token: f"<|{nonce}-{n}|>" for token, n in self.control.items()}
        self._find = _any_of(self.control)
        self._unmask = {name: token for token, name in self._masked.items()}
        self._find_masked = _any_of(self._unmask)
        self._backend = _renamed(fields, self._coded, self.control, self.name)
        # Without special tokens it is left out: it would trim what tokens say of their places.
        self._around = self._backend.post_processor

    @property
    def end(self) -> int:
        """The end-of-text token.

        Raises:
            DataError: The tokenizer has none.

        """
        if self.tokenizer.eos_token_id is None:
            raise DataError(
                f"{self.name}: the tokenizer has no end-of-text token (eos_token), which every "
                "target must end with"
            )
        return int(self.tokenizer.eos_token_id)

    def ends(self, others: Sequence[int]) -> tuple[int, ...]:
        """The end-of-text token, and those of a model's end tokens that are control tokens here."""
        own = set(self.control.values())
        return tuple(sorted({self.end, *(token for token in others if token in own)}))

    @property
    def begin(self) -> list[int]:
        """What the tokenizer puts in front of every text."""
        (found,) = self.encode(["a"], special=True)
        front = list(found.special_tokens_mask)
        return found.ids[: front.index(0)] if 0 in front else []

    @property
    def pad(self) -> int | None:
        """The token of padding, if there is one."""
        return self.tokenizer.pad_token_id

    def text_of(self, token: int) -> str | None:
        """How a token is written in the vocabulary; None for what is not in it."""
        return self.tokenizer.convert_ids_to_tokens(token) if token >= 0 else None

    def render(self, conversations: Sequence[Conversation]) -> list[str]:
        """Conversations of masked data as the template writes them, see `data.chat`."""
        names = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        return render(self.template, names, conversations, self.name)

    def mask(self, text: str) -> str:
        """Data for a template: what looks like a control token in it has another name."""
        return self._find.sub(lambda found: self._masked[found[0]], text)

    def unmask(self, text: str) -> str:
        """What a template made of masked data, to be given to `encode`."""
        text = self._find.sub(lambda found: self._coded[found[0]], text)
        return self._find_masked.sub(lambda found: self._unmask[found[0]], text)

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, special: bool = False
    ) -> list[Any]:
        """Encodings of the tokenizers library: ``ids``, ``offsets``, ``type_ids``, and others.

        Args:
            texts: Data as it is, or what `unmask` returned.
            pairs: Second texts, if there are any.
            special: Whether the tokenizer's own special tokens come around each.

        """
        given = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        self._backend.post_processor = self._around if special else None
        try:
            with silent():
                return self._backend.encode_batch(given, add_special_tokens=special)
        except BaseException as error:
            if not is_fault(error):
                raise
            raise DataError(
                f"{self.name}: the tokenizer cannot read a text: {said(error)}"
            ) from error

    def truncate(self, longest: int | None) -> None:
        """From now on `encode` cuts to so many tokens, the longer of two texts first."""
        if longest is None:
            self._backend.no_truncation()
        else:
            self._backend.enable_truncation(longest, strategy="longest_first")

    def continued(self, text: str) -> list[int]:
        """The ids of a text that continues another one: nothing is put in front of it."""
        if not text:
            return []
        for anchor in _ANCHORS:
            found, alone = self.encode([anchor + text, anchor])
            cut = split(found.offsets, len(anchor))
            if cut and found.ids[:cut] == alone.ids:
                return found.ids[cut:]
        return self.encode([text])[0].ids


def split(offsets: Sequence[tuple[int, int]], cut: int) -> int | None:
    """How many tokens there are before the character `cut`; None if one of them reaches over it."""
    number = next((n for n, (_, end) in enumerate(offsets) if end > cut), len(offsets))
    return number if number == len(offsets) or offsets[number][0] >= cut else None


def chat_template(tokenizer: Any) -> str:
    """The template for conversations; empty if there is none.

    Raises:
        DataError: The template is not a text.

    """
    found = tokenizer.chat_template
    if isinstance(found, dict):  # several, by name
        found = found.get("default", "")
    if found is not None and not isinstance(found, str):
        raise DataError(
            f"{tokenizer.name_or_path}: chat_template is a {type(found).__name__}, expected text"
        )
    return found or ""


def _check_merges(path: str | os.PathLike[str]) -> None:
    """Refuse merges that the tokenizers library ends the process at.

    It takes as many bytes as the prefix of continuing pieces has off every right part, unchecked.
    """
    file = _cached(path, _FILE)
    if file is None:
        return
    fields = parse_json(read_text(file, DataError), str(file), DataError)
    model = fields.get("model") if isinstance(fields, dict) else None
    prefix = model.get("continuing_subword_prefix") if isinstance(model, dict) else None
    merges = model.get("merges") if isinstance(model, dict) else None
    if not isinstance(prefix, str) or not isinstance(merges, list):
        return
    for merge in merges:
        pair = merge.split(" ", 1) if isinstance(merge, str) else merge
        right = pair[-1] if isinstance(pair, list) and pair else ""
        if isinstance(right, str) and not right.startswith(prefix):
            raise DataError(
                f"{file}: the merge {shown(merge, 60)} has a right part without the "
                f"continuing_subword_prefix {shown(prefix, 40)}"
            )


def _opened(path: str | os.PathLike[str]) -> Any:
    """The tokenizer as transformers reads it; by no class of its own if that cannot."""
    # Imported here: it takes seconds.
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    faults: list[BaseException] = []
    for kind in (AutoTokenizer, PreTrainedTokenizerFast):
        try:
            with silent():
                return kind.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        # A damaged file can raise nearly anything; the tokenizers library panics outside Exception.
        except BaseException as error:
            if not is_fault(error):
                raise
            faults.append(error)
        if _cached(path, _FILE) is None:
            break
    raise DataError(f"{path}: no tokenizer can be read there: {said(faults[0])}") from faults[0]


def _as_its_file_says(tokenizer: Any, path: str | os.PathLike[str]) -> None:
    """Put in place what ``tokenizer.json`` says, where a class of transformers brought its own."""
    from tokenizers import Tokenizer

    file = _cached(path, _FILE)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if file is None or backend is None:
        return
    try:
        with silent():
            stated = Tokenizer.from_str(read_text(file, DataError))
    except BaseException as error:
        if isinstance(error, DataError) or not is_fault(error):
            raise
        raise DataError(f"{file}: cannot be read: {said(error)}") from error
    config = _cached(path, _CONFIG)
    fields = (
        {} if config is None else parse_json(read_text(config, DataError), str(config), DataError)
    )
    backend.model = stated.model
    backend.normalizer, backend.pre_tokenizer = stated.normalizer, stated.pre_tokenizer
    backend.decoder = stated.decoder
    if not any(fields.get(f"add_{what}_token") is not None for what in ("bos", "eos")):
        backend.post_processor = stated.post_processor
    for id_, token in sorted(stated.get_added_tokens_decoder().items()):
        if backend.token_to_id(token.content) is None:
            (backend.add_special_tokens if token.special else backend.add_tokens)([token])
        if backend.token_to_id(token.content) != id_:
            raise DataError(
                f"{file}: the token {token.content!r} has the id {id_}, but "
                f"{backend.token_to_id(token.content)} by {_CONFIG}: they do not belong together"
            )


def _cached(path: str | os.PathLike[str], name: str) -> Path | None:
    """A file of a tokenizer, in its folder or in the local cache."""
    if check_path(path, "tokenizer", DataError).is_dir():
        return Path(path) / name if (Path(path) / name).is_file() else None
    import huggingface_hub

    try:
        found = huggingface_hub.try_to_load_from_cache(str(path), name)
    except ValueError as error:  # the Hub's own check of the name
        told = shown(os.fspath(path))
        raise DataError(f"tokenizer {told}: is neither a path nor a valid id of the Hub") from error
    return Path(found) if isinstance(found, str) else None


def _control(fields: dict[str, Any], tokenizer: Any, template: str) -> dict[str, int]:
    """Control tokens and their ids."""
    vocabulary = fields["model"].get("vocab")
    named = set(map(str, tokenizer.all_special_tokens))
    found = {}
    for token in fields["added_tokens"]:
        text = token["content"]
        # One character that the vocabulary has anyway is a letter, whatever else it is used for.
        letter = len(text) == 1 and isinstance(vocabulary, dict) and text in vocabulary
        marker = token["special"] or text in named or text in template or _MARKER.fullmatch(text)
        if marker and not letter:
            found[text] = token["id"]
    return found


def _any_of(texts: Any) -> re.Pattern[str]:
    """A pattern for the longest of `texts`, as the tokenizers library looks for added tokens."""
    longest = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")


def _renamed(fields: dict[str, Any], names: dict[str, str], ids: dict[str, int], of: str) -> Any:
    """The tokenizer in `fields` with other names for control tokens, which no text contains.

    In the model's vocabulary too, or a model of whole words or of pieces would find them there.
    """
    from tokenizers import Tokenizer

    fields = {**fields, "truncation": None, "padding": None}
    fields["added_tokens"] = [
        {**token, "content": names.get(token["content"], token["content"])}
        for token in fields["added_tokens"]
    ]
    model = dict(fields["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): n for token, n in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = [m if isinstance(m, list) else m.split(" ", 1) for m in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if not {a, b, a + b} & names.keys()]
    fields["model"] = model
    try:
        with silent():
            made = Tokenizer.from_str(json.dumps(fields))
    except BaseException as error:
        if not is_fault(error):
            raise
        raise DataError(f"{of}: its tokenizer cannot be rebuilt: {said(error)}") from error
    for token, name in names.items():
        if made.token_to_id(name) != ids[token]:
            raise DataError(f"{of}: the token {token!r} has no place of its own in the tokenizer")
    return made


def _plainly(tokenizer: Any, text: str, path: str | os.PathLike[str]) -> list[int]:
    """The ids of a text, no special tokens around it."""
    try:
        with silent():
            return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    except BaseException as error:
        if not is_fault(error):
            raise
        raise DataError(f"{path}: no tokenizer can be read there: {said(error)}") from error
