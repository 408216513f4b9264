"""Retry calls to the Hub, and translate its errors into ours."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lort_hub.errors import ConfigError, HubUnavailableError, LortHubError, PublishError

TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


T = TypeVar("T")
ATTEMPTS = 3
CONFLICT, TOO_MANY_REQUESTS = 412, 429


def retry(call: Callable[[], T]) -> T:
    """Retry a Hub call after a transient error, or once after a conflict that our own commit may have caused.

    If only the answer to a commit was lost, the second upload finds that the Hub's files equal ours.

    Args:
        call: The call; its last error is raised.

    Example:
        >>> retry(lambda: 1)
        1
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    attempt = conflicts = 0
    while True:
        attempt += 1
        try:
            return call()
        except (httpx2.HTTPError, OSError, RuntimeError, json.JSONDecodeError) as error:
            cause: Any = error
            if isinstance(error, RuntimeError) and error.__cause__:  # a failed LFS upload comes wrapped
                cause = error.__cause__
            status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
            conflicts += status == CONFLICT
            transient = status is None or status in (CONFLICT, TOO_MANY_REQUESTS) or status >= 500
            if not transient or conflicts == 2 or attempt == ATTEMPTS:
                raise cause from None
            wait = cause.response.headers.get("Retry-After", "") if status else ""
            time.sleep(int(wait) if wait.isdigit() else attempt)


@contextmanager
def translate_errors(repo_id: str) -> Iterator[None]:
    """Translate errors of the Hub and the network into errors of lort_hub.

    Args:
        repo_id: Repository of the push.

    Raises:
        ConfigError: The token is not accepted.
        PublishError: The Hub refuses.
        HubUnavailableError: The Hub does not answer.

    Example:
        >>> with translate_errors("me/name"):  # doctest: +ELLIPSIS
        ...     raise ConnectionError("no route")
        Traceback (most recent call last):
        lort_hub.errors.HubUnavailableError: Cannot push to 'me/name' on ... (ConnectionError: no route).
    """
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as cause:
        raise _refusal(cause, repo_id) from cause
    except (httpx2.HTTPError, OSError, RuntimeError, json.JSONDecodeError) as cause:
        raise HubUnavailableError(
            f"Cannot push to '{repo_id}' on {constants.ENDPOINT} ({type(cause).__name__}: {_reason(cause)})."
        ) from cause
    except ValueError as cause:  # the card's metadata
        raise PublishError(f"The Hub does not accept this output: {_reason(cause)}") from cause


def _refusal(error: Any, repo_id: str) -> LortHubError:
    """Translate an HTTP status, whatever exception carries it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import RevisionNotFoundError

    status, reason = error.response.status_code, _reason(error)
    if status == 401:
        return ConfigError(
            f"The Hub does not accept your token ({reason})\n"
            f"Make one that may write at {constants.ENDPOINT}/settings/tokens, then run `hf auth login`."
        )
    if status == 403:
        return PublishError(f"The Hub forbids you to write to '{repo_id}' ({reason})\nUse another name.")
    if status == 404:
        what = "branch" if isinstance(error, RevisionNotFoundError) else "repository"
        return PublishError(f"The Hub no longer has the {what} to push to in '{repo_id}' ({reason})")
    if status == TOO_MANY_REQUESTS or status >= 500:
        return HubUnavailableError(f"{constants.ENDPOINT} answered {status} {ATTEMPTS} times ({reason})")
    return PublishError(f"The Hub refused the push to '{repo_id}' with {status}: {reason}")


def _reason(error: Exception) -> str:
    lines = (getattr(error, "server_message", None) or str(error)).split("\n")
    return redact_tokens(" ".join(line.strip() for line in lines if line.strip())[:200])


def redact_tokens(text: str) -> str:
    """Replace Hub tokens in a text.

    Args:
        text: Text to show.

    Example:
        >>> redact_tokens("Bearer hf_abcdefghijklmnopqrst is not valid")
        'Bearer hf_*** is not valid'
    """
    from huggingface_hub import get_token

    token = get_token()
    return TOKEN.sub("hf_***", text.replace(token, "hf_***") if token else text)
