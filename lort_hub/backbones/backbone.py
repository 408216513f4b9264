"""What a backbone is: an image classifier seen as features followed by one linear layer.

The feature is the input of the model's final linear classifier, so a re-trained `(W, b)` drops back into the
original model exactly, in timm's models and in transformers' alike.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from PIL import Image as pillow
from torch import Tensor, nn
from torchvision.transforms import Compose

from lort_hub.data.transforms import Transform, with_random_operations
from lort_hub.errors import BackboneError
from lort_hub.records import TrainedOn


@dataclass(frozen=True)
class Backbone:
    """A loaded model, seen as features followed by one linear classifier.

    Attributes:
        spec: What the user wrote.
        source: Where the weights came from: a Hub id, a folder, or a timm name with random weights.
        revision: Commit of a Hub source, else None.
        library: Which library saved it, and will load the result.
        model: The complete model in eval mode.
        classifier_name: Name of the model's final linear layer (`nn.Linear`, or a 1x1 `nn.Conv2d`).
        class_names: Names of the classifier's outputs, or None where it is untrained or unnamed.
        transform: Deterministic evaluation preprocessing of one RGB image.
        augment: Random training preprocessing of one RGB image.
        image_size: Height of its input in pixels.
        preprocessing: JSON description of `transform`, part of the feature store's key.
        processor: transformers' image processor, saved with the model; None for timm.
        trained_on: The images it was trained on by lort_hub, as far as it is recorded.
        auto_augment: timm's name of the random operations in `augment` beyond crop and flip, or None.
    """

    spec: str
    source: str
    revision: str | None
    library: Literal["timm", "transformers"]
    model: nn.Module
    classifier_name: str
    class_names: tuple[str, ...] | None
    transform: Transform
    augment: Compose
    image_size: int
    preprocessing: dict[str, Any]
    processor: Any = field(default=None, repr=False)
    trained_on: TrainedOn | None = None
    auto_augment: str | None = None

    @property
    def classifier(self) -> nn.Linear | nn.Conv2d:
        """The final linear layer."""
        layer: nn.Linear | nn.Conv2d = self.model.get_submodule(self.classifier_name)  # type: ignore[assignment]
        return layer

    @property
    def num_features(self) -> int:
        """Size D of a feature vector."""
        return self.classifier.weight.shape[1]

    @property
    def weight(self) -> Tensor:
        """The classifier's own weight as a matrix (K, D)."""
        return self.classifier.weight.detach().flatten(1)

    @property
    def bias(self) -> Tensor:
        """The classifier's own bias (K,), zeros where it has none."""
        bias = self.classifier.bias
        return self.weight.new_zeros(len(self.weight)) if bias is None else bias.detach()

    def features(self, pixels: Tensor) -> Tensor:
        """The input (N, D) of the classifier for pixels (N, 3, H, W)."""
        model: Any = self.model
        if self.library == "timm":
            features: Tensor = model.forward_head(model.forward_features(pixels), pre_logits=True).flatten(1)
            return features
        captured: list[Tensor] = []
        hook = self.classifier.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        try:
            model(pixels)
        finally:
            hook.remove()
        return captured.pop()

    def logits(self, pixels: Tensor) -> Tensor:
        """The complete model's logits (N, K) for pixels (N, 3, H, W)."""
        return logits_of(self.model(pixels))

    def with_classifier(self, weight: Tensor, bias: Tensor, class_names: Sequence[str]) -> Backbone:
        """A copy of the complete model that ends in W (K, D), b (K,); this one is left as it is."""
        model: Any = copy.deepcopy(self.model)
        if self.library == "timm":
            model.reset_classifier(len(weight))
        classifier = model.get_submodule(self.classifier_name)
        if self.library == "transformers":
            classifier.out_features = len(weight)
            model.config.id2label = dict(enumerate(class_names))
            model.config.label2id = {name: k for k, name in enumerate(class_names)}
        shape = (*weight.shape, *classifier.weight.shape[2:])
        classifier.weight = nn.Parameter(weight.detach().reshape(shape).clone(), requires_grad=False)
        classifier.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        return replace(self, model=model, class_names=tuple(class_names))

    def with_new_classifier(self, class_names: Sequence[str]) -> Backbone:
        """A copy that ends in an untrained layer of these classes, as `nn.Linear` starts it."""
        fresh = nn.Linear(self.num_features, len(class_names))
        return self.with_classifier(fresh.weight, fresh.bias, class_names)

    def with_auto_augment(self, name: str) -> Backbone:
        """The same backbone with timm's random operations added to its training preprocessing."""
        augment = with_random_operations(self.augment, name, self.image_size)
        return replace(self, augment=augment, auto_augment=name)

    def fingerprint(self) -> str:
        """sha256 over every weight and buffer except the classifier's, so a new head keeps its features."""
        own = {id(tensor) for tensor in (self.classifier.weight, self.classifier.bias)}
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict(keep_vars=True).items()):
            if id(tensor) not in own:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def logits_of(output: Any) -> Tensor:
    """Logits (N, K) of what either library's model returns.

    Example:
        >>> logits_of(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


@torch.inference_mode()
def check_features(backbone: Backbone) -> None:
    """Refuse a model whose logits are not `classifier(features)`: a new head would not drop back in."""
    image = pillow.effect_noise((64, 64), 64).convert("RGB")
    pixels = torch.stack([backbone.transform(image), backbone.transform(image.rotate(90))])
    try:
        features, logits = backbone.features(pixels), backbone.logits(pixels)
    except (AssertionError, RuntimeError, ValueError) as cause:
        raise BackboneError(
            f"'{backbone.spec}' refuses an input of {tuple(pixels.shape)}: {cause}\nTry another --image-size."
        ) from cause
    if features.ndim != 2 or features.shape[1] != backbone.num_features:
        raise BackboneError(
            f"'{backbone.spec}' gives features of shape {tuple(features.shape)}, "
            f"expected (N, {backbone.num_features}), the input of its classifier."
        )
    if backbone.classifier.bias is None:
        raise BackboneError(
            f"The classifier of '{backbone.spec}' has no bias, so a re-trained one has nowhere to go.\n"
            "Use a backbone whose classifier has a bias."
        )
    rebuilt = features @ backbone.weight.T + backbone.bias
    error = (rebuilt - logits).abs().max().item()
    if not error <= 1e-4 * max(1.0, logits.abs().max().item()):
        raise BackboneError(
            f"'{backbone.spec}': classifier(features) is off the model's logits by {error:.2g}, expected 0.\n"
            "It does more after its features than one linear layer; use another backbone."
        )
