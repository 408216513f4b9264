"""Find published heads on the Hub by the tags of their cards."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lort_hub.download import refusal_reason
from lort_hub.errors import HubUnavailableError

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


@dataclass(frozen=True)
class PublishedHead:
    """A re-trained head on the Hub, alone or in a complete model; `LortHead.from_pretrained` loads both.

    Attributes:
        repo_id: `org/name`.
        method: Method that re-trained it.
        backbone: Hub id of its backbone, or its architecture if the backbone is not on the Hub.
        dataset: Hub id or name of its data set.
        balanced_accuracy: Balanced accuracy that its card states, a fraction.
        downloads: Downloads in the last 30 days.
    """

    repo_id: str
    method: str | None
    backbone: str | None
    dataset: str | None
    balanced_accuracy: float | None
    downloads: int | None

    @classmethod
    def of(cls, info: ModelInfo) -> PublishedHead:
        """Read a repository's tags and results; values that its card lacks are None."""
        tags: dict[str, str] = {}
        for tag in sorted(info.tags or (), key=lambda tag: "/" in tag):  # an id stands for a bare name
            kind, _, name = tag.partition(":")
            tags[kind] = name
        results = (info.card_data.eval_results if info.card_data else None) or []
        scores = [result.metric_value for result in results if result.metric_name == "balanced accuracy"]
        score = float(scores[0]) if scores and isinstance(scores[0], int | float) else None
        method, backbone, dataset = (tags.get(kind) for kind in ("method", "backbone", "trained-on"))
        return cls(info.id, method, backbone, dataset, score, info.downloads)


def search_tags(**names: str | None) -> list[str]:
    """Build the tags that a card carries and that a search filters by.

    Args:
        names: Names of the method, the backbone and the data set (`trained_on`); None is left out.

    Example:
        >>> search_tags(method="lort", backbone="timm/resnet50.a1_in1k", trained_on=None)
        ['lort_hub', 'method:lort', 'backbone:timm/resnet50.a1_in1k']
    """
    plain = {kind: re.sub(r"[^\w./-]+", "-", name).strip("-") for kind, name in names.items() if name}
    return ["lort_hub", *(f"{kind.replace('_', '-')}:{name}" for kind, name in plain.items() if name)]


def list_heads(backbone: str | None = None, dataset: str | None = None) -> list[PublishedHead]:
    """Search the Hub for heads and complete models that lort_hub has published.

    Args:
        backbone: Hub id or timm architecture; None for any.
        dataset: Hub id or name; None for any.

    Returns:
        One entry for each repository, in the Hub's order.

    Raises:
        HubUnavailableError: The Hub did not answer.

    Example:
        >>> list_heads(backbone="resnet50", dataset="cifar100")  # doctest: +SKIP
        [PublishedHead(repo_id='me/resnet50-lort', method='lort', ..., balanced_accuracy=0.52, downloads=3)]
    """
    import httpx2
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    tags = search_tags(backbone=backbone, trained_on=dataset)
    try:
        return [PublishedHead.of(info) for info in HfApi().list_models(filter=tags, cardData=True)]
    except (httpx2.HTTPError, HfHubHTTPError, OSError) as cause:
        if refusal := refusal_reason(cause, "model", "", None):
            raise HubUnavailableError(refusal) from cause
        raise HubUnavailableError(
            f"Cannot search {constants.ENDPOINT} for {' '.join(tags)} ({type(cause).__name__}).\n"
            "Try again later; LortHead.from_pretrained('org/name') needs no search."
        ) from cause
