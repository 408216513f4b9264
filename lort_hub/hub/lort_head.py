"""The published head: a linear layer alone, with the record of what it belongs to."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from torch import Tensor, nn

from lort_hub.backbones.load import load_backbone
from lort_hub.download import download_model
from lort_hub.errors import CheckpointError
from lort_hub.hub.card import render_head_card
from lort_hub.hub.head_file import read_head, read_head_config, write_head
from lort_hub.hub.upload import Published, push_to_hub

RECORD = {"source", "revision", "architecture", "library", "sha256", "preprocessing"}
"""What a head must know of its backbone to be put on it."""


class LortHead(nn.Linear):
    """A re-trained head on its own: (W, b) with the record of what it belongs to.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> LortHead(torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]}).save_pretrained(folder)
        >>> LortHead.from_pretrained(folder)(torch.tensor([[0.0, 1.0]]))
        tensor([[0., 1.]], grad_fn=<AddmmBackward0>)
    """

    def __init__(self, weight: Tensor, bias: Tensor, config: dict[str, Any]) -> None:
        """Wrap W (K, D) and b (K,) with a JSON-ready config."""
        super().__init__(weight.shape[1], weight.shape[0])
        self.load_state_dict({"weight": weight, "bias": bias})
        self.config = config

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json, model.safetensors and, where the config holds results, the card.

        Args:
            folder: Made if it does not exist.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_head(folder, self.weight.detach(), self.bias.detach(), self.config)
        if "results" in self.config:
            (folder / "README.md").write_text(render_head_card(self.config), encoding="utf-8")

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, revision: str | None = None, create_pr: bool = False
    ) -> Published:
        """Publish the head as a repository of its own, by `lort_hub.push_to_hub`, whose errors it raises.

        Args:
            repo_id: `namespace/name`; made if it does not exist.
            private: Make the repository private.
            revision: Branch to push to; None for main.
            create_pr: Open a pull request instead of writing to main.

        Returns:
            The page and the commit.
        """
        folder = mkdtemp(
            prefix="lort_hub-head-"
        )  # stays where a push fails, whose error says how to repeat it
        self.save_pretrained(folder)
        published = push_to_hub(folder, repo_id, private=private, revision=revision, create_pr=create_pr)
        shutil.rmtree(folder)
        return published

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
    ) -> LortHead:
        """Load a head from a folder or the Hub; missing or surplus tensors are errors.

        Args:
            source: A folder, or `org/name[@revision]`, of a head or of a complete model with a `head/`.
            revision: Branch, tag or commit; None for the one in `source`, or the default branch.
            token: A token in place of the one `hf auth login` stored.
            cache_dir: A folder in place of the Hub's cache.

        Raises:
            CheckpointError: It does not hold exactly a weight (K, D), a bias (K,) and their record.
            HubUnavailableError: The Hub is needed and does not answer.
        """
        folder = Path(source)
        if not folder.is_dir():
            repo_id, _, named = str(source).partition("@")
            folder = _download(repo_id, revision or named or None, token=token, cache_dir=cache_dir)
        folder = folder / "head" if (folder / "head" / "config.json").exists() else folder
        return cls(*read_head(folder, source))

    def attach(self, backbone: str | None = None) -> nn.Module:
        """The complete model: the recorded backbone, ending in this head.

        Args:
            backbone: Where to load the backbone from, a spec as of `load_backbone`; None for the recorded
                repository at the recorded revision, or the recorded folder.

        Returns:
            timm's or transformers' model in eval mode, with the class names of the record; timm's has its
            preprocessing too, for transformers the head's card has a snippet.

        Raises:
            CheckpointError: It is another backbone than the recorded one, or that is a folder not here.
            BackboneError: It cannot be loaded.
            HubUnavailableError: The Hub is needed and does not answer.

        Example:
            >>> model = LortHead.from_pretrained("me/name-head").attach()  # doctest: +SKIP
        """
        record = self.config.get("backbone", {})
        if not set(record) >= RECORD:
            raise CheckpointError(
                f"The head's config does not say what backbone it was made on: it lacks "
                f"{', '.join(sorted(RECORD - set(record)))} of 'backbone'."
            )
        given = backbone or _recorded(record)
        loaded = load_backbone(given, image_size=_image_size(record))
        if loaded.num_features != self.in_features or loaded.fingerprint() != record["sha256"]:
            ours = f"{self.in_features} features, sha256 {record['sha256'][:12]}"
            theirs = f"{loaded.num_features} features, sha256 {loaded.fingerprint()[:12]}"
            raise CheckpointError(
                f"The head was made on '{record['source']}' ({ours}),\n"
                f"but '{given}' is another backbone ({theirs}).\n"
                "Pass the weights it was made on: attach(backbone='FOLDER'), or 'org/name@revision'."
            )
        names = self.config["class_names"]
        model: Any = loaded.with_classifier(self.weight.cpu(), self.bias.cpu(), names).model.eval()
        if loaded.library == "timm":
            data = {name: value for name, value in record["preprocessing"].items() if name != "library"}
            model.pretrained_cfg |= {**data, "label_names": names, "num_classes": len(names)}
        attached: nn.Module = model
        return attached


def _download(repo_id: str, revision: str | None, **options: Any) -> Path:
    """A head's files, or those in `head/` of a complete model, of one commit."""
    error = CheckpointError
    wanted = ["config.json", "head/config.json", "head/model.safetensors"]
    folder, commit = download_model(repo_id, revision, error=error, files=wanted, **options)
    if not (folder / "head").is_dir():
        read_head_config(folder, repo_id)  # before another model's weights are fetched
        download_model(repo_id, commit, error=error, files=["model.safetensors"], **options)
    return folder


def _image_size(record: dict[str, Any]) -> int | None:
    """The side of a timm model's square input, on which its weights may depend."""
    _, height, width = record["preprocessing"].get("input_size", (3, None, None))
    return height if height == width else None


def _recorded(record: dict[str, Any]) -> str:
    """The spec of the backbone on record."""
    source: str = record["source"]
    if record["revision"]:
        source += f"@{record['revision']}"
    elif not Path(source).is_dir():
        raise CheckpointError(
            f"The head was made on the backbone '{source}' ({record['architecture']}, "
            f"sha256 {record['sha256'][:12]}), which is neither on the Hub nor a folder here.\n"
            "Pass a copy of it: attach(backbone='FOLDER') or attach(backbone='org/name')."
        )
    return f"transformers:{source}" if record["library"] == "transformers" else source
