"""From Hub ids (`org/name`, `org/name@revision`, `org/prefix*`) to folders of the local cache."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any

from jaxtask.adapters.formats.peft_config import CONFIG_NAME
from jaxtask.adapters.hub_errors import UnreachableError, told
from jaxtask.adapters.origin import ORIGIN
from jaxtask.errors import AdapterError, shown
from jaxtask.names import check_name
from jaxtask.text_files import read_object

MAX_REPOSITORIES = 200  # that one pattern may name
_MAX_PAGES = 20  # of the list of what an owner has; a page has up to 1,000
_WITHOUT_CONFIG = "pytorch_lora_weights.safetensors"
_ID = re.compile(r"([A-Za-z0-9][\w.-]*)/([\w*?\[][\w.*?!\[\]-]*)(?:@(.*))?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.+/-]{0,98}[\w+-]|[A-Za-z0-9]", re.ASCII)
_HOW = "nothing is downloaded without download=True"


@dataclass(frozen=True)
class Copy:
    """An adapter's folder in the local cache, and what the user calls it.

    Attributes:
        name: The id, with @revision if one was given.
        error: Why there is none, for one of many.

    """

    owner: str
    name: str
    folder: Path
    notes: tuple[str, ...] = ()
    error: AdapterError | None = None


class _NotThereError(AdapterError):
    """A repository holds no adapter."""


def is_hub(text: str) -> bool:
    """Whether a text that is no path may be a Hub id, or a pattern of them."""
    found = _ID.fullmatch(text)
    return found is not None and bool(_NAME.fullmatch(found[2]) or has_magic(found[2]))


def find_on_hub(text: str, names: Sequence[str], download: bool) -> tuple[list[Copy], list[str]]:
    """The adapters that an id or a pattern names, and notes on what a pattern matched beside them.

    Args:
        text: What `is_hub` says may be an id.
        names: The files that hold an adapter's weights, or are their index; the first wins.
        download: Ask the Hub and fetch what the cache lacks: the config, the weights of `names`
            and `jaxtask.json`, no other file. Otherwise only the cache is looked at.

    Raises:
        AdapterError: There is none, the Hub cannot be reached or refuses, or the cache cannot be
            written.

    """
    found = _ID.fullmatch(text)
    assert found is not None, text
    owner, name, revision = found.groups()
    if revision is not None and not _REVISION.fullmatch(revision):
        raise AdapterError(
            f"{shown(text)}: there is no such file or folder, and {shown(revision, 60)} is no "
            "revision of a Hub repository: expected a branch, a tag or a commit"
        )
    hub = _library(text)
    if not has_magic(name):
        make = _fetch if download else _look_up
        return [make(hub, owner, name, revision, names)], []
    if download:
        return _fetch_all(hub, text, owner, name, revision, names)
    copies = [
        Copy(owner, _title(one, revision), folder)
        for one in _cached_names(hub, owner)
        if fnmatchcase(one, name)
        and (folder := _cached(hub, f"{owner}/{one}", revision, names)) is not None
    ]
    if not copies:
        raise AdapterError(
            f"{text}: the pattern matches nothing, neither files nor adapters in the local Hugging "
            f"Face cache; {_HOW}"
        )
    return copies, []


def _library(text: str) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise AdapterError(
            f"'{text}' is no path; to look it up in the local Hugging Face cache or to download "
            "it, install huggingface_hub"
        ) from None
    return huggingface_hub


def _title(name: str, revision: str | None) -> str:
    return name if revision is None else f"{name}@{revision}"


def _cached(hub: Any, repository: str, revision: str | None, names: Sequence[str]) -> Path | None:
    """The folder of the cache that holds its weights, or at least its config."""
    for name in (*names, CONFIG_NAME):
        try:
            cached = hub.try_to_load_from_cache(repository, name, revision=revision)
        except ValueError as error:  # the library's own check of the name
            raise AdapterError(
                f"'{repository}' is neither a path nor a valid Hub id: {shown(str(error))}"
            ) from error
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def _cached_names(hub: Any, owner: str) -> list[str]:
    """The names of an owner's repositories in the cache."""
    start = f"models--{owner}--"
    try:
        entries = os.listdir(hub.constants.HF_HUB_CACHE)
    except OSError:  # there is none yet
        return []
    names = [entry.removeprefix(start) for entry in entries if entry.startswith(start)]
    return sorted(name for name in names if _NAME.fullmatch(name))


def _look_up(hub: Any, owner: str, name: str, revision: str | None, names: Sequence[str]) -> Copy:
    folder = _cached(hub, f"{owner}/{name}", revision, names)
    title = _title(name, revision)
    if folder is None:
        raise AdapterError(
            f"'{owner}/{title}' is neither a path nor an adapter in the local Hugging Face cache; "
            f"{_HOW}"
        )
    if not _whole(folder, names):
        raise AdapterError(
            f"'{owner}/{title}': the local Hugging Face cache has {CONFIG_NAME} but no weights; "
            f"{_HOW}"
        )
    return Copy(owner, title, folder)


def _whole(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _fetch(hub: Any, owner: str, name: str, revision: str | None, names: Sequence[str]) -> Copy:
    """Fetch what the cache lacks; where the Hub cannot be asked, what the cache has will do."""
    repository, title = f"{owner}/{name}", _title(name, revision)
    cached = _cached(hub, repository, revision, names)
    try:
        return Copy(owner, title, _download(hub, repository, revision, names))
    except UnreachableError as error:
        if cached is None or not _whole(cached, names):
            raise
        return Copy(owner, title, cached, (f"the cached copy was read: {error}",))


def _fetch_all(
    hub: Any, text: str, owner: str, pattern: str, revision: str | None, names: Sequence[str]
) -> tuple[list[Copy], list[str]]:
    copies: list[Copy] = []
    skipped: list[str] = []
    for name in _listed(hub, text, owner, pattern):
        try:
            copies.append(_fetch(hub, owner, name, revision, names))
        except _NotThereError:
            skipped.append(f"{owner}/{name}")
        except UnreachableError:
            raise
        except AdapterError as error:
            copies.append(Copy(owner, _title(name, revision), Path(), error=error))
    if not copies:
        what = f"matches only {', '.join(skipped[:3])}" if skipped else "matches nothing"
        raise AdapterError(f"{text}: the pattern {what} on the Hub, expected adapters")
    return copies, [f"'{text}' also matched {one}, which is no adapter." for one in skipped]


def _listed(hub: Any, text: str, owner: str, pattern: str) -> list[str]:
    """The names on the Hub that a pattern matches, in order."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    matched: set[str] = set()
    url, query = f"{hub.constants.ENDPOINT}/api/models", {"author": owner}
    for _ in range(_MAX_PAGES):
        with told(hub, text, None):
            answer = get_session().get(
                url,
                params=query or None,
                headers=build_hf_headers(),
                timeout=hub.constants.HF_HUB_DOWNLOAD_TIMEOUT,
            )
            hf_raise_for_status(answer)
            ids = [one["id"] for one in answer.json()]
            following = answer.links.get("next", {}).get("url")
        for one in ids:
            whose, _, name = str(one).partition("/")
            known = whose.casefold() == owner.casefold() and _NAME.fullmatch(name)
            if known and fnmatchcase(name, pattern):
                matched.add(name)
        if len(matched) > MAX_REPOSITORIES:
            raise AdapterError(
                f"{text}: the pattern matches over {MAX_REPOSITORIES} repositories, which is not "
                "meant to be downloaded at once: expected a narrower one"
            )
        if not following:
            return sorted(matched)
        url, query = following, {}
    raise AdapterError(f"{text}: {owner} has more models than are listed here: name them singly")


def _download(hub: Any, repository: str, revision: str | None, names: Sequence[str]) -> Path:
    """The folder with the files of one adapter, all of one commit."""
    title = _title(repository, revision)
    with told(hub, title, revision):
        about = hub.HfApi(endpoint=hub.constants.ENDPOINT).model_info(
            repository, revision=revision, timeout=hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
        )
        there = {one.rfilename for one in about.siblings or ()}
    weights = next((name for name in names if name in there), None)
    if weights is None:
        raise _NotThereError(f"{title}: {_no_adapter(there, names)}")
    if CONFIG_NAME not in there and weights != _WITHOUT_CONFIG:
        raise AdapterError(
            f"{title}: has {weights} but no {CONFIG_NAME}, which gives its scaling, on the Hub"
        )
    # The first file settles the commit, and what the revision means in the cache.
    wanted = [name for name in (CONFIG_NAME, ORIGIN, weights) if name in there]
    folder = _get(hub, title, repository, wanted[0], revision).parent
    for name in wanted[1:]:
        _get(hub, title, repository, name, folder.name)
    if weights.endswith(".index.json"):
        for name in _shards(folder / weights, title):
            _get(hub, title, repository, name, folder.name)
    return folder


def _no_adapter(there: set[str], names: Sequence[str]) -> str:
    below = sorted({n.rpartition("/")[0] for n in there if n.rpartition("/")[2] in names})
    if below:
        return (
            f"has no adapter at its root on the Hub, but in {shown(', '.join(below[:3]), 100)}: "
            "download that folder with `hf download` and its --include, and give its path"
        )
    found = shown(", ".join(sorted(there)[:6])) if there else "nothing"
    return f"is no adapter on the Hub: expected {CONFIG_NAME} and {names[0]}, found {found}"


def _shards(index: Path, title: str) -> list[str]:
    """The files that an index names, all of its own kind."""
    places = read_object(index, AdapterError).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise AdapterError(f"{title}: {index.name}: expected a 'weight_map' with tensors' files")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    what = f"{title}: {index.name}: weight_map: the file"
    files = {check_name(file, what, AdapterError) for file in places.values()}
    for file in files:
        if not file.endswith(suffix):
            raise AdapterError(f"{what} {shown(file)}: expected one that ends with {suffix}")
    return sorted(files)


def _get(hub: Any, title: str, repository: str, name: str, revision: str | None) -> Path:
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        """Says which adapter's file it is; shows itself on terminals only."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"desc": f"{title} {name}", "leave": False})

    with told(hub, title, revision):
        return Path(
            hub.hf_hub_download(
                repository,
                name,
                revision=revision,
                endpoint=hub.constants.ENDPOINT,
                tqdm_class=Bar,
            )
        )
