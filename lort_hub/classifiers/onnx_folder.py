"""Write what goes beside an ONNX file, in the layout of transformers.js: configs, a record and a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lort_hub import __version__
from lort_hub.backbones.backbone import Backbone
from lort_hub.classifiers.class_names import OutputName, map_classes
from lort_hub.classifiers.onnx_file import Difference, OnnxClassifier
from lort_hub.classifiers.preparation import describe_preparation, processor_config
from lort_hub.data.dataset import BadImageError, LongTailedData
from lort_hub.data.image_loader import ImageViews
from lort_hub.data.transforms import EVAL_VIEW
from lort_hub.data.unlabelled import load_unlabelled
from lort_hub.errors import CheckpointError, DatasetError, did_you_mean
from lort_hub.evaluation.markdown import code, escape
from lort_hub.evaluation.metrics import evaluate
from lort_hub.evaluation.report import Report
from lort_hub.evaluation.tables import results_table
from lort_hub.files import write_json
from lort_hub.hub.adapted import mix_of
from lort_hub.hub.card_text import fill_template
from lort_hub.records import Environment
from lort_hub.serialization import Record

SAMPLE = 16
"""Images that the ONNX file's logits are compared on."""
TIMM_IN_JS = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}
"""Config of a timm model for transformers.js, which knows no timm; the network is that of the ONNX file."""


@dataclass(frozen=True)
class ExportRecord(Record):
    """How a model was exported: the content of run.json.

    Attributes:
        model: The model.
        opset: Version of ONNX's operators.
        images: Where the images are from that the files were compared with torch on; None if generated.
        samples: Number of these images.
        float32: Logits of model.onnx, compared with torch's.
        int8: Logits of model_quantized.onnx, compared with torch's; None if there is none.
        dataset: The data set that the files were tested on; None for none.
        inexact: What preprocessor_config.json cannot express of the preparation; None if nothing.
        environment: Software of the export.
    """

    model: str
    opset: int
    images: str | None
    samples: int
    float32: Difference
    int8: Difference | None
    dataset: str | None
    inexact: str | None
    environment: Environment


def onnx_metadata(backbone: Backbone, record: dict[str, Any]) -> dict[str, Any]:
    """Collect what an ONNX file says of itself: preparation, class names, class mix and version.

    Args:
        backbone: The classifier.
        record: Content of the head's config.json, or {}.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> list(onnx_metadata(load_backbone("test_resnet", pretrained=False), {}))
        ['preprocessing', 'class_names', 'class_mix', 'lort_hub_version']
    """
    try:
        mix = mix_of(record, "").to_json()
    except CheckpointError:  # not calibrated, or made by another program
        mix = None
    return {
        "preprocessing": describe_preparation(backbone),
        "class_names": backbone.class_names,
        "class_mix": mix,
        "lort_hub_version": __version__,
    }


def sample_pixels(backbone: Backbone, images: str | None) -> Tensor:
    """Load images to compare logits on: up to 16 of a folder or data set, or generated ones.

    Args:
        backbone: The classifier, for its preparation.
        images: What `load_unlabelled` takes; None to generate them.

    Raises:
        DatasetError: None of the images can be decoded.

    Example:
        >>> from lort_hub.backbones.load import load_backbone
        >>> sample_pixels(load_backbone("test_resnet", pretrained=False, image_size=32), None).shape
        torch.Size([16, 3, 32, 32])
    """
    if images is None:
        rng = np.random.default_rng(0)
        coarse = [Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)) for _ in range(SAMPLE)]
        return torch.stack([backbone.transform(image.resize((320, 240))) for image in coarse])
    split, pixels = load_unlabelled(images), []
    for index in split.spaced(SAMPLE):
        try:
            pixels.append(backbone.transform(split.image(index)))
        except BadImageError:
            continue
    if not pixels:
        raise DatasetError(f"None of the images of '{images}' that were tried can be decoded.")
    return torch.stack(pixels)


def find_outputs(backbone: Backbone, data: LongTailedData) -> NDArray[np.int64]:
    """Find the output (K,) of each class of a data set, by name as `evaluate` does.

    Args:
        backbone: The classifier, which names its classes.
        data: The data set.

    Raises:
        DatasetError: The model does not have a class, or several outputs of its name.

    Example:
        >>> find_outputs(load_classifier("out")[0], data)  # doctest: +SKIP
    """
    names = list(backbone.class_names or ())
    classes = map_classes(data.class_names, [OutputName(name) for name in names], backbone.spec)
    if unknown := classes.missing:
        raise DatasetError(
            f"The model has no class '{unknown[0]}'{f' nor {len(unknown) - 1} more' if unknown[1:] else ''} "
            f"of '{data.name}'.{did_you_mean(unknown[0], names)}\n"
            "Give a data set of the classes that the model was made for."
        )
    return classes.outputs


def measure_files(
    models: Mapping[str, OnnxClassifier],
    backbone: Backbone,
    data: LongTailedData,
    class_counts: Sequence[int] | None = None,
    num_workers: int = 0,
) -> dict[str, Report]:
    """Measure ONNX files on the same images, one image at a time, as an application does.

    An int8 file quantises activations by the range they have in a batch: in larger batches it does worse.

    Args:
        models: The files, by name.
        backbone: The classifier, for its preparation and the order of its K classes.
        data: The data set, whose classes the model has, in any order.
        class_counts: Training images (K,), which define the groups; None for those of the data set.
        num_workers: Decoding threads or processes.

    Raises:
        BadImageError: An image cannot be decoded.
        DatasetError: As `find_outputs`.

    Example:
        >>> measure_files({"float32": OnnxClassifier.load(path)}, backbone, data)  # doctest: +SKIP
    """
    outputs, test, number = find_outputs(backbone, data), data.test, len(backbone.class_names or ())
    if class_counts is None:
        class_counts = np.bincount(outputs[data.train.labels], minlength=number).tolist()
    logits: dict[str, list[Any]] = {name: [] for name in models}
    rows = [list(part) for part in np.array_split(np.arange(len(test)), -(-len(test) // 32))]
    views = ImageViews(test, backbone.transform, backbone.augment)
    for batch in views.batches(EVAL_VIEW, rows, num_workers):
        pixels = batch.require_all()
        for name, model in models.items():
            logits[name].append(model.logits(pixels, batch_size=1))
    return {
        name: evaluate(np.concatenate(parts), outputs[test.labels], class_counts)
        for name, parts in logits.items()
    }


def write_configs(folder: Path, backbone: Backbone) -> None:
    """Write config.json and preprocessor_config.json as transformers.js reads them.

    Args:
        folder: An existing folder.
        backbone: The classifier.

    Example:
        >>> import tempfile
        >>> from lort_hub.backbones.load import load_backbone
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_configs(folder, load_backbone("test_resnet", pretrained=False))
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'preprocessor_config.json']
    """
    model: Any = backbone.model
    config = TIMM_IN_JS if backbone.library == "timm" else model.config.to_diff_dict()
    names = backbone.class_names or ()
    labels = {
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
    }
    write_json(folder / "config.json", {**config, **labels})
    write_json(folder / "preprocessor_config.json", processor_config(backbone))


def write_record(
    folder: Path,
    record: ExportRecord,
    reports: Mapping[str, Report],
    class_names: Sequence[str],
    license: str | None,
) -> None:
    """Write run.json, metrics.json if there are reports, and the card.

    Args:
        folder: An existing folder.
        record: How the model was exported.
        reports: Report of each file on the data set, by name; {} without one.
        class_names: Names of the K classes.
        license: License of the model; None if it is not known.

    Example:
        >>> write_record(Path("out/onnx"), record, {}, ["ant", "bee"], "apache-2.0")  # doctest: +SKIP
    """
    from huggingface_hub import ModelCardData

    metadata = ModelCardData(
        library_name="transformers.js",
        pipeline_tag="image-classification",
        license=license,
        tags=["image-classification", "onnx"],
        ignore_metadata_errors=False,
    )
    card = fill_template(
        "onnx_card.md",
        metadata,
        title=escape(Path(record.model).name),
        model=code(record.model),
        num_classes=len(class_names),
        record=record,
        table=results_table(reports) if reports else None,
        version=__version__,
    )
    write_json(folder / "run.json", record.to_json())
    if reports:
        write_json(folder / "metrics.json", {name: report.to_json() for name, report in reports.items()})
    (folder / "README.md").write_text(card, encoding="utf-8", errors="replace")
