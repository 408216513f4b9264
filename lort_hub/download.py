"""Download models and data sets of one commit from the Hugging Face Hub, without long waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lort_hub.errors import DatasetError, HubUnavailableError, LortHubError

CONNECT_SECONDS = 5.0
MODEL_FILES = [
    "README.md",
    "config.json",
    "preprocessor_config.json",
    "run.json",
    "*.safetensors",
    "*.safetensors.index.json",
]

WITHOUT_THE_HUB = (
    "Without the Hub: give a folder as the data set and local-dir:FOLDER as the backbone, or set "
    "HF_HUB_OFFLINE=1 to use what is in the cache."
)


def pin_revision(
    repo_id: str,
    revision: str | None,
    *,
    kind: Literal["model", "dataset"],
    error: type[LortHubError],
    token: str | bool | None = None,
) -> str | None:
    """Resolve a repository's branch, tag or short hash to a commit.

    Args:
        repo_id: `org/name`.
        revision: Branch, tag or commit; None for the default branch.
        kind: Which kind of repository.
        error: Class of the error to raise if the Hub refuses the repository.
        token: A token in place of the one `hf auth login` stored.

    Returns:
        The 40-digit commit, or `revision` unchanged if `HF_HUB_OFFLINE` is set.

    Raises:
        HubUnavailableError: The Hub did not answer; raised within seconds, before anything is written.

    Example:
        >>> import os
        >>> pin_revision("org/name", "main", kind="model", error=LortHubError)  # doctest: +SKIP
        '8d3f...'
    """
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as cause:
        raise error(f"'{repo_id}' is not a Hub repository id: {cause}") from cause
    if constants.HF_HUB_OFFLINE:
        return revision
    api = HfApi(token=token)
    look_up = api.model_info if kind == "model" else api.dataset_info
    try:
        return look_up(repo_id, revision=revision, timeout=CONNECT_SECONDS).sha
    except (httpx2.HTTPError, HfHubHTTPError, OSError) as cause:
        if refusal := refusal_reason(cause, kind, repo_id, revision):
            raise error(refusal) from cause
        reason = str(cause).splitlines()[0] if str(cause) else ""
        raise HubUnavailableError(
            f"{_not_here(repo_id)}Cannot reach {constants.ENDPOINT} for the {kind} '{repo_id}' "
            f"({type(cause).__name__}: {reason}).\n{WITHOUT_THE_HUB}"
        ) from cause


def refusal_reason(cause: Exception, kind: str, repo_id: str, revision: str | None) -> str | None:
    """Explain why the Hub refuses a repository, and what to do; None if it did not refuse."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(cause, GatedRepoError):
        page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
        return (
            f"The {kind} '{repo_id}' is gated.\nAccept its terms at {page} and log in with `hf auth login`."
        )
    if isinstance(cause, RepositoryNotFoundError):
        return (
            f"{_not_here(repo_id)}No {kind} '{repo_id}' on {constants.ENDPOINT}, or it is private and you "
            "are not logged in.\nCheck the spelling, or run `hf auth login`."
        )
    if isinstance(cause, RevisionNotFoundError):
        return f"The {kind} '{repo_id}' has no revision '{revision}'."
    if isinstance(cause, HfHubHTTPError) and cause.response.status_code == 401:
        return f"{constants.ENDPOINT} does not accept your token.\nRun `hf auth login`, or unset HF_TOKEN."
    return None


def download_model(
    repo_id: str,
    revision: str | None,
    *,
    error: type[LortHubError],
    files: Sequence[str] = MODEL_FILES,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> tuple[Path, str | None]:
    """Download a model's card, configuration and safetensors of one commit, and never a pickle.

    Args:
        repo_id: `org/name`.
        revision: Branch, tag or commit; None for the default branch.
        error: Class of the error to raise if the Hub refuses the repository.
        files: Patterns of the files to download.
        token: A token in place of the one `hf auth login` stored.
        cache_dir: A folder in place of the Hub's cache.

    Returns:
        The folder in the Hub's cache and the commit its files are from.

    Raises:
        HubUnavailableError: The Hub did not answer and the cache does not hold the repository.

    Example:
        >>> download_model("timm/resnet18.a1_in1k", None, error=LortHubError)  # doctest: +SKIP
        (PosixPath('.../snapshots/491b4...'), '491b4...')
    """
    return _download("model", repo_id, revision, error, files, token, cache_dir)


def download_dataset(repo_id: str, revision: str | None, *, files: Sequence[str]) -> tuple[Path, str]:
    """Download files of one commit of a data set.

    Args:
        repo_id: `org/name`.
        revision: Branch, tag or commit; None for the default branch.
        files: Patterns of the files wanted.

    Returns:
        The folder in the Hub's cache and the commit its files are from.

    Raises:
        DatasetError: The Hub answers that the data set cannot be had.
        HubUnavailableError: The Hub did not answer and the cache does not hold the files.

    Example:
        >>> download_dataset("uoft-cs/cifar10", None, files=["README.md"])  # doctest: +SKIP
        (PosixPath('.../snapshots/0b271...'), '0b271...')
    """
    return _download("dataset", repo_id, revision, DatasetError, files)


def list_dataset_files(repo_id: str, folder: Path) -> list[str]:
    """List the files of a data set of which `download_dataset` has downloaded some.

    Args:
        repo_id: `org/name`.
        folder: What `download_dataset` returned.

    Example:
        >>> list_dataset_files("org/name", Path("/nonexistent"))
        []
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        tree = get_cached_repo_tree(repo_id, repo_type="dataset", revision=folder.name)
        return sorted(entry.path for entry in tree)
    except (CachedRepoTreeNotFoundError, ValueError, OSError):  # cached by an older library
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _download(
    kind: Literal["model", "dataset"],
    repo_id: str,
    revision: str | None,
    error: type[LortHubError],
    files: Sequence[str],
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> tuple[Path, str]:
    import httpx2
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    pin_revision(repo_id, revision, kind=kind, error=error, token=token)
    try:
        folder = Path(
            snapshot_download(
                repo_id,
                repo_type=kind,
                revision=revision,  # pinned to one commit in there, which keeps the name for offline use
                allow_patterns=list(files),
                token=token,
                cache_dir=cache_dir,
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )
    except (LocalEntryNotFoundError, httpx2.HTTPError, HfHubHTTPError) as cause:
        if refusal := refusal_reason(cause, kind, repo_id, revision):
            raise error(refusal) from cause
        reason = str(cause).splitlines()[0]
        raise HubUnavailableError(
            f"{_not_here(repo_id)}Could not download '{repo_id}' ({type(cause).__name__}: {reason}).\n"
            f"Try again to resume the download. {WITHOUT_THE_HUB}"
        ) from cause
    return folder, folder.name


def _not_here(repo_id: str) -> str:
    """Say of a name that may be a path that no folder has it."""
    path = Path(repo_id)
    may_be_path = path.parent != Path() and path.parent.is_dir()
    return f"There is no folder '{repo_id}' here. " if may_be_path and not path.exists() else ""


def license_of(repo_id: str, revision: str) -> str | None:
    """Read the license on the card of a downloaded model; None if the card states none.

    Args:
        repo_id: `org/name`.
        revision: The commit that was downloaded.

    Example:
        >>> license_of("timm/resnet50.a1_in1k", "f" * 40) is None  # not downloaded
        True
    """
    from huggingface_hub import ModelCard, try_to_load_from_cache
    from yaml import YAMLError

    card = try_to_load_from_cache(repo_id, "README.md", revision=revision)
    if not isinstance(card, str):
        return None
    try:
        stated = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except (OSError, ValueError, YAMLError):  # a stranger's card may be anything
        return None
    return stated if isinstance(stated, str) else None
