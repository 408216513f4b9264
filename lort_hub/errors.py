"""Define the errors that a user can fix, and suggest names close to a misspelt one.

A message says what happened, what was got, what was expected and what to do next, in at most three lines.
Recipes turn `ConfigError` into exit code 2 and every other `LortHubError` into exit code 1; only a bug of
lort_hub ends in a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LortHubError(Exception):
    """Root of every error lort_hub raises on purpose."""


class ConfigError(LortHubError, ValueError):
    """Arguments that are wrong for any data and any machine."""


class BackboneError(LortHubError):
    """A backbone that cannot be found, loaded, or given a new linear head."""


class DatasetError(LortHubError):
    """A data set whose columns, labels or images cannot be used as asked."""


class NoClassFoldersError(DatasetError):
    """Pictures that lie in no class folders, so that folders do not tell their classes."""


class NoSplitError(DatasetError):
    """A split that a data set does not have."""


class FeatureError(LortHubError):
    """Features that are damaged, not finite, or do not fit the labels."""


class ProcessLostError(LortHubError):
    """The end of another process of the same run before its work was done."""


class CheckpointError(LortHubError):
    """An output folder or checkpoint that cannot be written or read back."""


class HubUnavailableError(LortHubError):
    """A Hub that does not answer, or refuses, before any compute was spent."""


class PublishError(LortHubError):
    """A push that the Hub refused, and will refuse again until something is changed."""


class RevisionConflictError(PublishError):
    """A push that would have overwritten somebody else's commit."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return `" Did you mean 'x' or 'y'?"` for the names closest to `name`, or an empty string.

    Example:
        >>> did_you_mean("resnet5O", ["resnet50", "vit_small_patch16_224"])
        " Did you mean 'resnet50'?"
        >>> did_you_mean("zebra", ["resnet50"])
        ''
    """
    close = get_close_matches(name, list(candidates), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
