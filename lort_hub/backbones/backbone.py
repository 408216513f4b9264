"""Define the backbone: an image classifier, seen as features followed by one linear layer.

The feature is the input of the model's final linear classifier, so a re-trained `(W, b)` fits back into the
original model exactly. This holds for models of timm and of transformers.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image as pillow
from torch import Tensor, nn
from torchvision.transforms import Compose

from lort_hub.data.transforms import Transform, add_auto_augment
from lort_hub.errors import BackboneError
from lort_hub.records import TrainedOn

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Backbone:
    """Loaded model, seen as features followed by one linear classifier.

    Attributes:
        spec: The spec that the user wrote.
        source: Origin of the weights: a Hub id, a folder, or a timm name with random weights.
        revision: Commit of a Hub source, else None.
        library: Library that saved the model and will load the result.
        model: The complete model in eval mode.
        classifier_name: Name of the model's final linear layer (`nn.Linear`, or a 1x1 `nn.Conv2d`).
        class_names: Names of the classifier's outputs; None where it is untrained or has no names.
        transform: Deterministic evaluation preprocessing of one RGB image.
        augment: Random training preprocessing of one RGB image.
        image_size: Height of its input in pixels.
        preprocessing: JSON description of `transform`, part of the feature store's key.
        processor: Image processor of transformers, saved with the model; None for timm.
        trained_on: Record of the images that lort_hub trained it on; None where there is none.
        auto_augment: Name of the random operations in `augment`; None for crop and flip alone.
        is_classifier: Whether the weights of its classifier were loaded, and are not random.
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
    is_classifier: bool = True

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
        """The classifier's weight as a matrix (K, D)."""
        return self.classifier.weight.detach().flatten(1)

    @property
    def bias(self) -> Tensor:
        """The classifier's bias (K,), zeros where it has none."""
        bias = self.classifier.bias
        return self.weight.new_zeros(len(self.weight)) if bias is None else bias.detach()

    def features(self, pixels: Tensor) -> Tensor:
        """Compute the features (N, D), the input of the classifier, for pixels (N, 3, H, W)."""
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
        """Compute the complete model's logits (N, K) for pixels (N, 3, H, W)."""
        return logits_of(self.model(pixels))

    def with_classifier(self, weight: Tensor, bias: Tensor, class_names: Sequence[str]) -> Backbone:
        """Copy the complete model with W (K, D) and b (K,) as its classifier; the original is unchanged."""
        model: Any = copy.deepcopy(self.model)
        if self.library == "timm":
            model.reset_classifier(len(weight))
        classifier = model.get_submodule(self.classifier_name)
        if self.library == "transformers":
            classifier.out_features = len(weight)
            model.config.id2label = dict(enumerate(class_names))
            model.config.label2id = {name: k for k, name in enumerate(class_names)}
            model.config.problem_type = "single_label_classification"  # or pipeline scores each class alone
        shape = (*weight.shape, *classifier.weight.shape[2:])
        classifier.weight = nn.Parameter(weight.detach().reshape(shape).clone(), requires_grad=False)
        classifier.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        trained_on = self.trained_on and self.trained_on.with_other_head()
        return replace(self, model=model, class_names=tuple(class_names), trained_on=trained_on)

    def with_new_classifier(self, class_names: Sequence[str]) -> Backbone:
        """Copy the model with an untrained classifier for these classes, initialised as `nn.Linear` is."""
        untrained = nn.Linear(self.num_features, len(class_names))
        return self.with_classifier(untrained.weight, untrained.bias, class_names)

    def with_auto_augment(self, name: str) -> Backbone:
        """Copy the backbone with the random operations of this name in its training preprocessing."""
        augment = add_auto_augment(self.augment, name, self.image_size)
        return replace(self, augment=augment, auto_augment=name)

    def fingerprint(self) -> str:
        """Hash every weight and buffer but the classifier's (sha256): a new head changes no feature."""
        classifier = {id(tensor) for tensor in (self.classifier.weight, self.classifier.bias)}
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict(keep_vars=True).items()):
            if id(tensor) not in classifier:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def structure(self) -> str:
        """Hash the layers but the classifier (sha256): the same weights may lie about another activation."""
        layers = {name: layer for name, layer in self.model.named_modules() if name != self.classifier_name}
        lines = [
            f"{name} {type(layer).__name__ if any(layer.children()) else layer}"
            for name, layer in layers.items()
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@contextmanager
def stated_precision(accelerator: Accelerator) -> Iterator[None]:
    """Compute in the accelerator's precision: torch's own for convolutions on GPUs has ten bits (TF32).

    Example:
        >>> from accelerate import Accelerator
        >>> with stated_precision(Accelerator(cpu=True)):
        ...     torch.backends.cudnn.allow_tf32
        False
        >>> torch.backends.cudnn.allow_tf32
        True
    """
    usual = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = usual and accelerator.mixed_precision != "no"
    try:
        with accelerator.autocast():
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = usual


def logits_of(output: Any) -> Tensor:
    """Return the logits (N, K) in the output of a timm or transformers model.

    Example:
        >>> logits_of(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits


@torch.inference_mode()
def check_features(backbone: Backbone) -> None:
    """Refuse a model whose logits are not `classifier(features)`: a new head would not fit back in."""
    image = pillow.effect_noise((64, 64), 64).convert("RGB")
    shapes = {tuple(backbone.transform(image.resize(size)).shape) for size in ((64, 64), (96, 48), (48, 96))}
    if len(shapes) > 1:
        raise BackboneError(
            f"The processor of '{backbone.spec}' does not crop: images of 3 shapes become {sorted(shapes)}.\n"
            f"Give `image_size` to crop to a square, e.g. {min(min(shape[1:]) for shape in shapes)}."
        )
    pixels = torch.stack([backbone.transform(image), backbone.transform(image.rotate(90))])
    try:
        features, logits = backbone.features(pixels), backbone.logits(pixels)
    except (AssertionError, RuntimeError, ValueError) as cause:
        raise BackboneError(
            f"'{backbone.spec}' refuses an input of {tuple(pixels.shape)}: {cause}\nTry another `image_size`."
        ) from cause
    if features.ndim != 2 or features.shape[1] != backbone.num_features:
        raise BackboneError(
            f"'{backbone.spec}' gives features of shape {tuple(features.shape)}, "
            f"expected (N, {backbone.num_features}), the input of its classifier."
        )
    if backbone.classifier.bias is None:
        raise BackboneError(
            f"The classifier of '{backbone.spec}' has no bias, so a re-trained bias cannot be stored.\n"
            "Use a backbone whose classifier has a bias."
        )
    if not (features.isfinite().all() and logits.isfinite().all()):
        raise BackboneError(
            f"'{backbone.spec}' gives features or logits that are not finite, on an image of noise.\n"
            "Its weights are damaged, or their training diverged; use another revision or backbone."
        )
    recomputed = features @ backbone.weight.T + backbone.bias
    error = (recomputed - logits).abs().max().item()
    if not error <= 1e-4 * max(1.0, logits.abs().max().item()):
        raise BackboneError(
            f"'{backbone.spec}': classifier(features) differs from the model's logits by {error:.2g}, "
            "expected 0.\nThe model does more after its features than one linear layer; use another backbone."
        )
