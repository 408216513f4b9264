"""Push an output folder to the Hub: checked before, in one commit or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lort_hub
from lort_hub.download import CONNECT_SECONDS
from lort_hub.errors import ConfigError, PublishError, RevisionConflictError, did_you_mean
from lort_hub.hub.card import address_cards
from lort_hub.hub.head_file import is_head
from lort_hub.hub.retry import CONFLICT, redact_tokens, retry, translate_errors
from lort_hub.hub.validate import OUTPUT_FILES, validated_copy

Kind = Literal["model", "space"]


@dataclass(frozen=True)
class Published:
    """A finished push.

    Attributes:
        url: Page of the repository, its branch, or the pull request.
        commit: Commit that holds the output.
    """

    url: str
    commit: str


def push_to_hub(
    folder: Path | str,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
) -> Published:
    """Push an output folder, or a head folder alone, as one commit that overwrites nobody else's.

    A copy is checked and pushed, so another process may write the folder meanwhile. Transient errors are
    retried, such that even a lost answer ends in exactly one commit.

    Args:
        folder: An output folder, or the `head` folder in it.
        repo_id: `namespace/name`; made if it does not exist.
        private: Make the repository private.
        revision: Branch to push to; made if it does not exist. None for main.
        create_pr: Open a pull request instead of writing to main.

    Returns:
        The page and the commit.

    Raises:
        CheckpointError: The folder is not a complete output that loads.
        ConfigError: `check_push` refuses the push.
        RevisionConflictError: Somebody else pushed meanwhile.
        PublishError: The Hub refused the push.
        HubUnavailableError: The Hub did not answer.

    Example:
        >>> push_to_hub("out", "me/name")  # doctest: +SKIP
        Published(url='https://huggingface.co/me/name', commit='8d3f...')
    """
    where: dict[str, Any] = {"private": private, "revision": revision, "create_pr": create_pr}
    check_push(repo_id, head=is_head(Path(folder)), **where)
    with validated_copy(folder) as staged:
        address_cards(staged, repo_id)
        what = f"{'head' if is_head(staged) else 'model'} with lort_hub {lort_hub.__version__}"
        return push_folder(staged, repo_id, f"Push {what}", replaces=OUTPUT_FILES, **where)


def check_push(
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
    head: bool = False,
    kind: Kind = "model",
) -> None:
    """Refuse, before any compute, a push that cannot succeed.

    Args:
        repo_id: `namespace/name`.
        private: As in `push_to_hub`.
        revision: As in `push_to_hub`.
        create_pr: As in `push_to_hub`.
        license: What the card will say, where it is known.
        head: Whether it is a head alone, which never replaces a complete model.
        kind: Kind of the repository.

    Raises:
        ConfigError: The id is not valid, there is no token, the token may not write there, the repository is
            public and `private` is set, or the Hub does not know the license.
        PublishError: The head would replace a complete model.
        HubUnavailableError: The Hub does not answer.

    Example:
        >>> check_push("name")
        Traceback (most recent call last):
        lort_hub.errors.ConfigError: 'name' is not a Hub repository id, expected namespace/name.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as cause:
        raise ConfigError(f"'{repo_id}' is not a Hub repository id: {redact_tokens(str(cause))}") from cause
    if "/" not in repo_id:
        raise ConfigError(f"'{repo_id}' is not a Hub repository id, expected namespace/name.")
    if create_pr and revision:
        raise ConfigError("A pull request goes to main: give `create_pr` or `revision`, not both.")
    if constants.HF_HUB_OFFLINE:
        raise ConfigError("HF_HUB_OFFLINE is set, so nothing can be pushed.\nUnset it to push.")
    if get_token() is None:
        raise ConfigError(f"No Hub token to push to '{repo_id}' with.\n{_new_token()}")
    api = HfApi()
    with translate_errors(repo_id):
        existing = _find(api, repo_id, kind)  # first, because whoami knows no timeout
        me = retry(api.whoami)
        may_write = existing is not None and not create_pr and _may_write(api, repo_id, kind)
    if create_pr and existing is None:
        raise ConfigError(f"No model '{repo_id}' to open a pull request on.\nLeave out `create_pr`.")
    if not create_pr and not may_write:
        _check_role(me, repo_id, refused=existing is not None)
    if private and existing is not None and not existing.private:
        raise ConfigError(f"'{repo_id}' exists and is public.\nLeave out `private`, or use another name.")
    if head and existing is not None and not revision:
        _check_no_model(existing, repo_id)
    if license:
        _check_license(license, repo_id)


def _check_no_model(repository: Any, repo_id: str) -> None:
    """Refuse to replace a complete model by a head alone."""
    if "head/config.json" in {file.rfilename for file in repository.siblings or ()}:
        raise PublishError(
            f"'{repo_id}' holds a complete model, which the head alone would replace.\n"
            f"Push the head to a repository of its own: {repo_id}-head."
        )


def _may_write(api: Any, repo_id: str, kind: Kind) -> bool:
    """Ask the Hub whether our token may write to an existing repository."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        retry(partial(api.auth_check, repo_id, repo_type=kind, write=True))
    except HfHubHTTPError as cause:
        if cause.response.status_code != 403:
            raise
        return False
    return True


def _check_role(me: dict[str, Any], repo_id: str, *, refused: bool) -> None:
    """Say why the Hub refused an existing repository, or refuse a new one that may not be made.

    Args:
        me: The Hub's answer to whoami.
        repo_id: Repository of the push.
        refused: Whether the Hub has refused it.
    """
    token, (namespace, name) = me.get("auth", {}).get("accessToken", {}), repo_id.split("/")
    places = [me["name"], *(org["name"] for org in me.get("orgs", []) if org.get("roleInOrg") != "read")]
    if not _has_write_role(token, namespace, repo_id) or (refused and namespace in places):
        raise ConfigError(
            f"Your Hub token may not write to '{repo_id}' (its role is {token.get('role')}).\n{_new_token()}"
        )
    if refused or namespace not in places:
        raise ConfigError(
            f"You ({me['name']}) may not write to '{namespace}', only to {', '.join(places)}."
            f"{did_you_mean(namespace, places)}\nUse {me['name']}/{name}, or `create_pr=True`."
        )


def _check_license(license: str, repo_id: str) -> None:
    """Refuse a license that the Hub would not take on a card."""
    from huggingface_hub import ModelCard

    card = ModelCard(f"---\nlicense: {json.dumps(license)}\n---\n")
    try:
        with translate_errors(repo_id):
            retry(card.validate)
    except PublishError as cause:
        raise ConfigError(
            f"The Hub does not take the license '{license}'. {cause}\nUse one that it knows, or `other`."
        ) from cause


def _new_token() -> str:
    from huggingface_hub import constants

    page = f"{constants.ENDPOINT}/settings/tokens"
    return f"Make one that may write at {page}, then run `hf auth login` or set HF_TOKEN."


def _has_write_role(token: dict[str, Any], namespace: str, repo_id: str) -> bool:
    if token.get("role") != "fineGrained":
        return token.get("role") != "read"
    scoped = token.get("fineGrained", {}).get("scoped", [])
    names = {scope["entity"].get("name") for scope in scoped if "repo.write" in scope.get("permissions", [])}
    return bool({namespace, repo_id} & names)


def _find(api: Any, repo_id: str, kind: Kind) -> Any:
    """Get the repository's information; None if it does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return retry(partial(api.repo_info, repo_id, repo_type=kind, timeout=CONNECT_SECONDS))
    except RepositoryNotFoundError:
        return None


def push_folder(
    folder: Path,
    repo_id: str,
    title: str,
    *,
    replaces: Sequence[str],
    kind: Kind = "model",
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
) -> Published:
    """Push a folder as one commit, after `check_push`.

    Args:
        folder: Folder of exactly what is pushed.
        repo_id: As in `push_to_hub`.
        title: Title of the commit.
        replaces: Patterns of the files of an earlier push; the commit deletes those not in the folder.
        kind: Kind of the repository; a Space is one of gradio.
        private: As in `push_to_hub`.
        revision: As in `push_to_hub`.
        create_pr: As in `push_to_hub`.

    Raises:
        RevisionConflictError: Somebody else pushed meanwhile.
        PublishError: The Hub refused the push.
        HubUnavailableError: The Hub did not answer.

    Example:
        >>> push_folder(Path("space"), "me/name", "Push", replaces=["app.py"], kind="space")  # doctest: +SKIP
    """
    with translate_errors(repo_id):
        return _push(folder, repo_id, title, replaces, kind, private, revision, create_pr)


def _push(
    staged: Path,
    repo_id: str,
    title: str,
    replaces: Sequence[str],
    kind: Kind,
    private: bool,
    revision: str | None,
    create_pr: bool,
) -> Published:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    if create_pr:
        # Once, and its branch pushed to as any other: upload_folder(create_pr=True) opens one for each call.
        pull_request = api.create_pull_request(repo_id, title=title)
        target, url = pull_request.git_reference, pull_request.url
    else:
        # None leaves the choice to the namespace's default.
        made: dict[str, Any] = {"repo_type": kind, "space_sdk": "gradio" if kind == "space" else None}
        url = str(retry(partial(api.create_repo, repo_id, private=private or None, exist_ok=True, **made)))
        target = revision
    if revision:
        retry(partial(api.create_branch, repo_id, branch=revision, exist_ok=True))
        url = f"{url}/tree/{revision}"
    info: Any = partial(api.repo_info, repo_id, repo_type=kind, revision=target)
    now = retry(info)
    if is_head(staged):
        _check_no_model(now, repo_id)
    upload = partial(
        api.upload_folder,
        repo_id=repo_id,
        repo_type=kind,
        folder_path=staged,
        commit_message=title,
        revision=target,
        parent_commit=now.sha,
        delete_patterns=list(replaces),
    )
    try:
        commit = retry(upload).oid
    except HfHubHTTPError as cause:
        if cause.response.status_code != CONFLICT:
            raise
        theirs = info().sha
        raise RevisionConflictError(
            f"Somebody else pushed {theirs} to '{repo_id}' meanwhile; it is left as it is.\n"
            "Look at it, then push again on top of it, or beside it with `revision` or `create_pr`."
        ) from cause
    if create_pr:
        retry(partial(api.change_discussion_status, repo_id, pull_request.num, "open"))
    return Published(url, commit)
