"""Load, attach, save and publish a re-trained head: one linear layer and its config."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from lort_hub.backbones.load import load_backbone
from lort_hub.download import download_model
from lort_hub.errors import CheckpointError
from lort_hub.hub.card import render_head_card
from lort_hub.hub.head_file import HeadConfig, read_head, read_head_config, write_head
from lort_hub.hub.upload import Published, push_to_hub
from lort_hub.records import BackboneRecord


class LortHead(nn.Linear):
    """A re-trained head (W, b) with its config: class names, backbone, data and results.

    `head.config` is the content of config.json; `HeadConfig.from_json(head.config)` is the same as a record.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> LortHead(torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]}).save_pretrained(folder)
        >>> LortHead.from_pretrained(folder)(torch.tensor([[0.0, 1.0]]))
        tensor([[0., 1.]], grad_fn=<AddmmBackward0>)
    """

    def __init__(self, weight: Tensor, bias: Tensor, config: dict[str, Any]) -> None:
        """Build the layer from W (K, D), b (K,) and a JSON-ready config, which holds at least class_names."""
        super().__init__(weight.shape[1], weight.shape[0])
        self.load_state_dict({"weight": weight, "bias": bias})
        self.config = config

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json, model.safetensors and, where the config holds results, the card.

        Args:
            folder: Folder of the files; made if it does not exist.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_head(folder, self.weight.detach(), self.bias.detach(), self.config)
        if "results" in self.config:
            card = render_head_card(HeadConfig.from_json(self.config))
            (folder / "README.md").write_text(card, encoding="utf-8", errors="replace")

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, revision: str | None = None, create_pr: bool = False
    ) -> Published:
        """Push the head to a repository of its own, by `lort_hub.push_to_hub`, which lists the errors.

        Args:
            repo_id: `namespace/name`; made if it does not exist.
            private: Make the repository private.
            revision: Branch to push to; None for main.
            create_pr: Open a pull request instead of writing to main.

        Returns:
            The page and the commit.
        """
        with TemporaryDirectory(prefix="lort_hub-head-") as folder:
            self.save_pretrained(folder)
            return push_to_hub(folder, repo_id, private=private, revision=revision, create_pr=create_pr)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
    ) -> LortHead:
        """Load a head from a folder or from the Hub.

        Args:
            source: A folder, or `org/name[@revision]`, of a head or of a complete model with a `head/`.
            revision: Branch, tag or commit; None for the one in `source`, or the default branch.
            token: A token in place of the one `hf auth login` stored.
            cache_dir: A folder in place of the Hub's cache.

        Raises:
            CheckpointError: It does not hold exactly a weight (K, D), a bias (K,) and the names of K classes.
            HubUnavailableError: The Hub is needed and does not answer.
        """
        folder = Path(source)
        if not folder.is_dir():
            repo_id, _, named = str(source).partition("@")
            folder = _download(repo_id, revision or named or None, token=token, cache_dir=cache_dir)
        folder = folder / "head" if (folder / "head" / "config.json").exists() else folder
        return cls(*read_head(folder, source))

    def attach(self, backbone: str | None = None) -> nn.Module:
        """Load the backbone that the head was made on, with the head as its classifier.

        Args:
            backbone: Spec of the backbone, as in `load_backbone`; None for the Hub id and revision, or the
                folder, in the config.

        Returns:
            timm's or transformers' complete model in eval mode, with the class names of the head. timm's has
            the preprocessing too; for transformers the card of the head has a snippet.

        Raises:
            CheckpointError: The backbone has other weights than those of the config, or is a folder that
                does not exist here.
            BackboneError: It cannot be loaded.
            HubUnavailableError: The Hub is needed and does not answer.

        Example:
            >>> model = LortHead.from_pretrained("me/name-head").attach()  # doctest: +SKIP
        """
        try:
            record = BackboneRecord.from_json(self.config.get("backbone", {}))
        except CheckpointError as cause:
            raise CheckpointError(f"The head does not say what backbone it was made on: {cause}") from cause
        spec = backbone or _spec(record)
        loaded = load_backbone(spec, image_size=_image_size(record))
        if loaded.num_features != self.in_features or loaded.fingerprint() != record.sha256:
            ours = f"{self.in_features} features, sha256 {record.sha256[:12]}"
            theirs = f"{loaded.num_features} features, sha256 {loaded.fingerprint()[:12]}"
            raise CheckpointError(
                f"The head was made on '{record.source}' ({ours}),\n"
                f"but '{spec}' is another backbone ({theirs}).\n"
                "Pass the weights it was made on: attach(backbone='FOLDER'), or 'org/name@revision'."
            )
        names = self.config["class_names"]
        model: Any = loaded.with_classifier(self.weight.cpu(), self.bias.cpu(), names).model.eval()
        if loaded.library == "timm":
            data = {name: value for name, value in record.preprocessing.items() if name != "library"}
            model.pretrained_cfg |= {**data, "label_names": names, "num_classes": len(names)}
        attached: nn.Module = model
        return attached


def _download(repo_id: str, revision: str | None, **options: Any) -> Path:
    """Download the files of a head, or those in `head/` of a complete model, all of one commit."""
    error = CheckpointError
    wanted = ["config.json", "head/config.json", "head/model.safetensors"]
    folder, commit = download_model(repo_id, revision, error=error, files=wanted, **options)
    if not (folder / "head").is_dir():
        read_head_config(folder, repo_id)  # before another model's weights are fetched
        download_model(repo_id, commit, error=error, files=["model.safetensors"], **options)
    return folder


def _image_size(record: BackboneRecord) -> int | None:
    """Return the side of a square input of timm, on which the weights may depend."""
    _, height, width = record.preprocessing.get("input_size", (3, None, None))
    return height if height == width else None


def _spec(record: BackboneRecord) -> str:
    """Return the spec of the backbone in a config."""
    spec = record.source
    if record.revision:
        spec += f"@{record.revision}"
    elif not Path(spec).is_dir():
        raise CheckpointError(
            f"The head was made on the backbone '{spec}' ({record.architecture}, "
            f"sha256 {record.sha256[:12]}), which is neither on the Hub nor a folder here.\n"
            "Pass a copy of it: attach(backbone='FOLDER') or attach(backbone='org/name')."
        )
    return f"transformers:{spec}" if record.library == "transformers" else spec
