"""The published head: a linear layer alone, with the record of what it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lort_hub.errors import CheckpointError
from lort_hub.hub import download_model


class LortHead(nn.Linear):
    """A re-trained head on its own: (W, b) with the record of what it belongs to.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> LortHead(torch.eye(2), torch.zeros(2), {"class_names": ["cat", "dog"]}).save_pretrained(folder)
        >>> LortHead.from_pretrained(str(folder))(torch.tensor([[0.0, 1.0]]))
        tensor([[0., 1.]], grad_fn=<AddmmBackward0>)
    """

    def __init__(self, weight: Tensor, bias: Tensor, config: dict[str, Any]) -> None:
        """Wrap W (K, D) and b (K,) with a JSON-ready config."""
        super().__init__(weight.shape[1], weight.shape[0])
        self.load_state_dict({"weight": weight, "bias": bias})
        self.config = config

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors.

        Args:
            folder: Made if it does not exist.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, source: str) -> LortHead:
        """Load a head from a folder or the Hub; missing or surplus tensors are errors.

        Args:
            source: A folder, or `org/name[@revision]`.

        Raises:
            CheckpointError: It does not hold exactly a weight (K, D) and a bias (K,).
            HubUnavailableError: The Hub is needed and does not answer.
        """
        folder = Path(source)
        if not folder.is_dir():
            repo_id, _, revision = source.partition("@")
            folder, _ = download_model(repo_id, revision or None, error=CheckpointError)
        try:
            tensors = load_file(folder / "model.safetensors")
            config = json.loads((folder / "config.json").read_text())
        except FileNotFoundError as cause:
            raise CheckpointError(f"'{source}' is not a LORT head: {cause}.") from cause
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if set(shapes) != {"weight", "bias"} or shapes["bias"] != shapes["weight"][:1]:
            raise CheckpointError(f"'{source}' holds {shapes}, expected exactly weight (K, D) and bias (K,).")
        return cls(tensors["weight"], tensors["bias"], config)
