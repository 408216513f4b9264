"""Extract the features that heads are fitted and tested on, and keep heads beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from lort_hub import __version__
from lort_hub.backbones.backbone import Backbone
from lort_hub.data.dataset import LongTailedData
from lort_hub.data.transforms import EVAL_VIEW, augmented_view
from lort_hub.features.distributed import Processes
from lort_hub.features.extract import extract_features
from lort_hub.features.matrix import CPU, FeatureMatrix, solving_device
from lort_hub.features.nodes import collect_parts
from lort_hub.features.store import Features, FeatureStore
from lort_hub.heads.fit import fit_baseline
from lort_hub.heads.fitted import Fit, own_fit
from lort_hub.heads.methods import STAGE1
from lort_hub.heads.repetition import repetition_note
from lort_hub.heads.training_set import TrainingSet
from lort_hub.records import ChosenSettings, TrainedOn

if TYPE_CHECKING:
    from accelerate import Accelerator

HEAD_FORMAT = 23
"""Version of `Fit.to_cache` and of how heads are chosen; raise it when one of them changes."""


def memorised_note(record: TrainedOn, *, surely: bool) -> str:
    """Write the note that a backbone was trained on the images at hand, or may have been.

    Args:
        record: The images that it was trained on.
        surely: Whether all images at hand are of these.

    Example:
        >>> memorised_note(TrainedOn("cifar100", "train", (0, 1), "f00"), surely=False)[:39]
        "The backbone was trained on 'cifar100'."
    """
    fact = f"The backbone was trained on '{record.dataset}'. If these images are a copy of those, it"
    if surely:
        fact = f"The backbone was trained on all of these images ('{record.dataset}'). It"
    return (
        f"{fact} has memorised them: settings that are chosen on them are too optimistic for tail "
        "classes, and probabilities far too sure. retrain's `refit` takes both from a run "
        "on a backbone that held images out."
    )


@dataclass(frozen=True)
class RetrainingTask:
    """Features to fit heads on, and features to test them on.

    Attributes:
        data: The data set, without images that could not be decoded.
        training: Features of the training images, and which of them were held out of the backbone's training.
        views: Features (N, D) of augmented views of the training images.
        train_store: Store of the training features.
        test_store: Store of the test features.
        notes: Lines to show to the user, such as images that were left out.
    """

    data: LongTailedData
    training: TrainingSet
    views: list[FeatureMatrix]
    train_store: FeatureStore
    test_store: FeatureStore
    notes: list[str]

    @cached_property
    def test(self) -> Features:
        """Features of the test images, in memory."""
        return self.test_store.load()

    @classmethod
    def extract(
        cls,
        backbone: Backbone,
        data: LongTailedData,
        accelerator: Accelerator,
        *,
        views: int = 0,
        shared: bool = False,
        chooses: bool = True,
        **options: Any,
    ) -> RetrainingTask | None:
        """Extract the features that are not in the cache; every process calls this.

        Args:
            backbone: The frozen backbone.
            data: The data set.
            accelerator: Device, precision and processes.
            views: Number of augmented views of each training image.
            shared: Whether all processes fit heads together, each on its share of the training images.
            chooses: Whether settings are chosen on the training images, which a note warns of where the
                backbone may have memorised them.
            options: Arguments of `extract_features`: batch_size, num_workers, on_bad_image, seed, folder,
                dtype.

        Returns:
            The task; None on all processes but the main one, unless `shared`.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from accelerate import Accelerator
            >>> from lort_hub.data.load import load_long_tailed
            >>> from lort_hub.backbones.load import load_backbone
            >>> backbone = load_backbone("test_resnet", pretrained=False, image_size=32)
            >>> folder, data = Path(tempfile.mkdtemp()), load_long_tailed("digits")
            >>> task = RetrainingTask.extract(backbone, data, Accelerator(cpu=True), folder=folder)
            >>> task.training.x.shape, task.test.x.shape
            (torch.Size([523, 96]), torch.Size([500, 96]))
        """
        stores = [
            extract_features(backbone, split, accelerator=accelerator, views=number, **options)
            for split, number in ((data.train, views), (data.test, 0))
        ]
        train_store, test_store = stores
        names = [augmented_view(options.get("seed", 0), view + 1) for view in range(views)]
        alone = [] if shared else [(train_store, view) for view in (EVAL_VIEW, *names)]
        for store, view in (*alone, (test_store, EVAL_VIEW)):  # of what the first process reads whole
            collect_parts(store, view, Processes.of(accelerator))
        if not shared and not accelerator.is_main_process:
            return None
        processes = Processes.of(accelerator) if shared else Processes()
        data = data.leave_out(*(store.skipped(processes) for store in stores))
        notes = data.left_out()
        unseen = train_store.unseen
        if chooses and backbone.trained_on and (unseen is None or not unseen.any()):
            notes.append(memorised_note(backbone.trained_on, surely=unseen is not None))
        device = solving_device(accelerator)
        training = TrainingSet.of(train_store, data.num_classes, processes, device)
        if not data.source["groups"] and (note := repetition_note(training)):
            notes.append(note)
        view_matrices = [train_store.open(name, processes)[0].to(device) for name in names]
        return cls(data, training, view_matrices, train_store, test_store, notes)

    def baseline(self, backbone: Backbone, **how: Any) -> Fit:
        """Return the backbone's own head where its classes match, else fit cross-entropy on the features.

        Args:
            backbone: The backbone.
            how: Arguments of `fit_baseline`: select_by, chosen, seed, exact.
        """
        return own_fit(backbone, self.data.class_names) or fit_baseline(self.training, **how)

    def cached_baseline(self, backbone: Backbone, *, chosen: ChosenSettings | None = None, **how: Any) -> Fit:
        """Load the baseline from the feature store, or fit it and save it there.

        Cross-entropy takes longer to fit than most heads that are compared with it.
        """
        settings = chosen and chosen.to_json()
        made_by = {"backbone_class_names": backbone.class_names, "chosen": settings, **how}
        return self.cached(made_by, lambda: self.baseline(backbone, chosen=chosen, **how))

    def cached(self, made_by: dict[str, Any], fit: Callable[[], Fit]) -> Fit:
        """Load a linear head from the feature store, or fit it and save it there.

        Args:
            made_by: JSON-ready values that tell it from heads made otherwise.
            fit: Fits the head.
        """
        head = self.load_head(made_by)
        if head is None:
            head = fit()
            if head.method != STAGE1:
                self.save_head(head, made_by)
        return head

    def save_head(self, fit: Fit, made_by: dict[str, Any]) -> bool:
        """Save a linear head beside the features; every process calls this, and the first one writes.

        Args:
            fit: The head.
            made_by: JSON-ready values that tell it from heads made otherwise.

        Returns:
            Whether there was room for it.
        """
        key = self._head_key(made_by)
        try:
            if self.training.processes.index == 0:
                self.train_store.save_result(key, *fit.to_cache())
        except OSError:
            return False
        return True

    def load_head(self, made_by: dict[str, Any]) -> Fit | None:
        """Load the head that `save_head` saved beside the features of the first process; None without one."""
        processes, key = self.training.processes, self._head_key(made_by)
        cached = self.train_store.load_result(key) if processes.index == 0 else None
        cached = processes.broadcast_object(cached)
        return Fit.from_cache(*cached) if cached else None

    def _head_key(self, made_by: dict[str, Any]) -> str:
        """Hash everything that a head depends on beside the features of the store."""
        held_out = self.training.held_out
        if held_out is not None:
            held_out = self.training.processes.gather(held_out).nonzero().flatten()
        groups = self.training.all_groups
        on_gpu = {} if self.training.device == CPU else {"device": self.training.device.type}
        content = {
            "lort_hub": __version__,
            "torch": torch.__version__,
            "format": HEAD_FORMAT,
            "class_names": self.data.class_names,
            "held_out": None if held_out is None else held_out.tolist(),
            **made_by,
            **on_gpu,
            "groups": None if groups is None else hashlib.sha256(groups.numpy().tobytes()).hexdigest(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
