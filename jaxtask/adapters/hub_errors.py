"""What may go wrong between us and the Hugging Face Hub, each in one line with what to do."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtask.errors import AdapterError, shown


class UnreachableError(AdapterError):
    """The Hub cannot be asked, or its cache cannot be written: a copy that is there will do."""


@contextmanager
def told(hub: Any, title: str, revision: str | None) -> Iterator[None]:
    """What the library raises, in one line with what to do about it. Holds calls of it only.

    Raises:
        AdapterError: In place of what the library raises.

    """
    errors = hub.errors
    # The library's HTTP client has changed its name, not its errors.
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
    at = hub.constants.ENDPOINT
    again = "what is complete stays in the cache, so give the same command again"
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise UnreachableError(
            f"{title}: cannot be downloaded while HF_HUB_OFFLINE is set"
        ) from error
    except errors.GatedRepoError as error:
        raise AdapterError(
            f"{title}: is gated: ask for access at {at}/{title.partition('@')[0]}, then log in "
            "with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise AdapterError(
            f"{title}: there is no such model at {at}, or it is private: check the name; for a "
            "private one log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise AdapterError(
            f"{title}: has no revision {revision!r} on the Hub: expected a branch, a tag or a "
            "commit"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(title, at, error) from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refused(title, at, cause) from error
        raise UnreachableError(
            f"{title}: {at} cannot be reached: {shown(str(cause))}: check the network; {again}"
        ) from error
    except (errors.HTTPError, client.InvalidURL) as error:
        said = shown(str(error) or type(error).__name__)
        raise UnreachableError(
            f"{title}: {at} cannot be reached, or the connection was cut: {said}: check the "
            f"network, proxies and HF_ENDPOINT; {again}"
        ) from error
    except OSError as error:
        if error.errno is None:  # the library's own: sizes differ, and such
            raise UnreachableError(
                f"{title}: {at} did not send all: {shown(str(error))}: {again}"
            ) from error
        place = "" if error.filename is None else f"{shown(os.fspath(error.filename))}: "
        raise UnreachableError(
            f"{title}: the cache cannot be written: {place}{error.strerror}: make room, or set "
            "HF_HUB_CACHE to a folder on another disk"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise AdapterError(
            f"{title}: {at} does not answer as a Hugging Face Hub does: {shown(str(error))}: check "
            "the network, proxies and HF_ENDPOINT"
        ) from error


def _refused(title: str, at: str, error: Any) -> AdapterError:
    """Any other answer that is an error."""
    status = error.response.status_code
    if status in (401, 403):
        todo = "log in with `hf auth login` or set HF_TOKEN to a token that may read it"
    elif status == 404:
        todo = "check the name, the revision and HF_ENDPOINT"
    elif status == 429:
        todo = "too many requests: wait some minutes, or log in with `hf auth login`"
    else:
        todo = "try again later"
    said = f" ({shown(error.server_message, 100)})" if error.server_message else ""
    kind = UnreachableError if status >= 500 else AdapterError
    return kind(f"{title}: {at} answers with HTTP {status}{said}: {todo}.")
