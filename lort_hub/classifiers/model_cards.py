"""Write the results of an evaluation into the cards of its models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lort_hub.classifiers.card_metadata import Metric, update_card
from lort_hub.classifiers.evaluate import Evaluation
from lort_hub.errors import ConfigError
from lort_hub.hub.card import METRIC_NAMES, result_metrics


def card_of(source: str) -> Path:
    """Find the card of a model in a folder, or where it will be.

    Args:
        source: The model as the user named it.

    Raises:
        ConfigError: The model is not in a folder.

    Example:
        >>> card_of("local-dir:.")
        PosixPath('README.md')
    """
    folder = Path(source.removeprefix("transformers:").removeprefix("local-dir:")).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"`update_card` writes into README.md of a model's folder, and '{source}' is none.\n"
            "Download the model (hf download), evaluate the folder, and push that."
        )
    return folder / "README.md"


def update_cards(evaluation: Evaluation) -> list[str]:
    """Write the numbers of each model into the metadata of its card, and leave all else as it is.

    Args:
        evaluation: The evaluation, of models in folders.

    Returns:
        What was done, a line for each model.

    Raises:
        CheckpointError: Metadata that cannot be changed without touching anything else.

    Example:
        >>> update_cards(evaluation)  # doctest: +SKIP
        ['out/photos/README.md: added the results on photos (none)']
    """
    data = evaluation.data
    dataset = {
        "name": f"{data.name} ({data.source['imbalance']})",
        "type": data.source["dataset"] if data.source["revision"] else data.name,
        "split": data.split,
    }
    lines: Sequence[str] = [
        f"{card_of(one.name)}: "
        + update_card(
            card_of(one.name),
            dataset,
            [Metric(*metric) for metric in result_metrics(one.report)],
            METRIC_NAMES,
        )
        for one in evaluation.results
    ]
    return list(lines)
