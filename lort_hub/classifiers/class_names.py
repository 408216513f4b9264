"""Map the classes of a data set to the outputs of a classifier by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lort_hub.backbones.backbone import Backbone
from lort_hub.data.image_folder.names import fold
from lort_hub.errors import CheckpointError, ConfigError, DatasetError
from lort_hub.shorten import quoted, shown

ABSENT = -1
"""Output of a class that the model does not have."""
IMAGENET_TAG = re.compile(r"(^|_)in\d+k$")
"""End of the tag of timm's weights that were last trained on ImageNet."""
SAME = 0.9
"""Share of names that are ImageNet's, each in its place, from which on a model's classes are ImageNet's."""


@dataclass(frozen=True)
class OutputName:
    """The name of one output of a classifier.

    Attributes:
        name: Its name.
        others: Other names of the class alone: of ImageNet, the synset and the first synonym.
        synonyms: Words that other classes may share.
    """

    name: str
    others: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()

    def forms(self) -> list[tuple[str, ...]]:
        """List its names as they are looked for, the surest first; the later half is folded."""
        exact = [(self.name,), self.others, self.synonyms]
        return [*exact, *(tuple(map(_folded, names)) for names in exact)]


@dataclass(frozen=True)
class ClassMap:
    """Which output of a classifier stands for which class of a data set.

    Attributes:
        outputs: Output (K,) of each class of the data set; `ABSENT` where the model has no such class.
        renamed: Names in the data set and in the model of classes that are not spelt the same.
        missing: Classes of the data set that the model does not have.
        unused: Outputs of classes that the data set does not have.
        unused_outputs: Names of these.
    """

    outputs: NDArray[np.int64]
    renamed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    unused: NDArray[np.int64]
    unused_outputs: tuple[OutputName, ...]

    @property
    def unused_names(self) -> tuple[str, ...]:
        """Names of the outputs of classes that the data set does not have."""
        return tuple(one.name for one in self.unused_outputs)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether the model has each class (K,)."""
        known: NDArray[np.bool_] = self.outputs != ABSENT
        return known

    def notes(self) -> list[str]:
        """List every mismatch for the user, a line each."""
        lines = []
        if self.renamed:
            pairs = [f"'{ours}' is '{theirs}'" for ours, theirs in self.renamed]
            lines.append(f"Classes spelt otherwise in the model: {shown(pairs, 5)}.")
        if self.missing:
            spare = {
                _folded(name): name
                for one in self.unused_outputs
                for name in (*one.synonyms, *one.others[1:], one.name)
            }
            lacking = [f"'{name}'{_near(name, spare)}" for name in self.missing]
            lines.append(
                f"Classes that the model does not have: {len(self.missing):,}; their images count as wrong, "
                f"in the ECE too, and the NLL leaves them out. They are {shown(lacking, 5)}."
            )
        if self.unused_outputs:
            short = [one.others[-1] if one.others else one.name for one in self.unused_outputs]
            lines.append(
                f"Classes of the model that the data do not have: {len(short):,}; an answer of them counts "
                f"as wrong. They are {quoted(short)}."
            )
        return lines


def map_classes(class_names: Sequence[str], outputs: Sequence[OutputName], source: str) -> ClassMap:
    """Map classes to outputs by name: the same name, else another name of the output, else these folded.

    Folding leaves out capitals, and takes underscores and hyphens for blanks.

    Args:
        class_names: Names of the K classes of the data set.
        outputs: Names of the outputs.
        source: The model as the user named it, for messages.

    Raises:
        DatasetError: A name stands for several outputs or an output for several classes, or no class has one.

    Example:
        >>> found = map_classes(["cat", "Big_Dog", "owl"], [OutputName("big dog"), OutputName("cat")], "m")
        >>> found.outputs.tolist(), found.missing
        ([1, 0, -1], ('owl',))
    """
    ways: list[dict[str, list[int]]] = [{} for _ in OutputName("").forms()]
    for output, one in enumerate(outputs):
        for way, names in zip(ways, one.forms(), strict=True):
            for name in dict.fromkeys(names):
                way.setdefault(name, []).append(output)
    found = np.array([_find(name, ways, outputs, source) for name in class_names], dtype=np.int64)
    taken: dict[int, str] = {}
    for name, output in zip(class_names, found.tolist(), strict=True):
        if output != ABSENT and output in taken:
            raise DatasetError(
                f"'{taken[output]}' and '{name}' of the data are both '{outputs[output].name}' of '{source}'."
                "\nMerge these classes, or rename one of them."
            )
        taken[output] = name
    unused = np.setdiff1d(np.arange(len(outputs)), found)
    named = list(zip(class_names, found.tolist(), strict=True))
    return ClassMap(
        outputs=found,
        renamed=tuple((n, outputs[k].name) for n, k in named if k != ABSENT and n != outputs[k].name),
        missing=tuple(name for name, output in named if output == ABSENT),
        unused=unused,
        unused_outputs=tuple(outputs[k] for k in unused),
    )


def _near(name: str, spare: Mapping[str, str]) -> str:
    close = get_close_matches(_folded(name), list(spare), n=1, cutoff=0.7)
    return f" (did you mean '{spare[close[0]]}'?)" if close else ""


def _find(name: str, ways: Sequence[dict[str, list[int]]], outputs: Sequence[OutputName], source: str) -> int:
    keys = [name] * (len(ways) // 2) + [_folded(name)] * (len(ways) // 2)
    for way, key in zip(ways, keys, strict=True):
        found = way.get(key, [])
        if len(found) > 1:
            each = [" or ".join(map(repr, outputs[k].others or (outputs[k].name,))) for k in found[:5]]
            raise DatasetError(
                f"Class '{name}' of the data could be {len(found)} outputs of '{source}': "
                f"{', '.join(f'{one} (output {k})' for one, k in zip(each, found, strict=False))}.\n"
                "Rename the class in the data to one of these."
            )
        if found:
            return found[0]
    return ABSENT


def _folded(name: str) -> str:
    return fold(name.replace("_", " ").replace("-", " "))


def name_outputs(backbone: Backbone, file: Path | None = None) -> tuple[list[OutputName], str | None]:
    """Name the outputs of a classifier: as it says itself, as ImageNet's where it says so, or by a file.

    Args:
        backbone: The classifier.
        file: Text file with a name a line, in the order of the outputs, for models that name none.

    Returns:
        A name for each output, and a note on where they are from; None where the model names them.

    Raises:
        CheckpointError: The model has no trained classifier, or nothing tells the names of its outputs.
        ConfigError: The file has another number of names.

    Example:
        >>> from dataclasses import replace
        >>> from lort_hub.backbones.load import load_backbone
        >>> backbone = load_backbone("test_resnet", pretrained=False)
        >>> outputs, note = name_outputs(replace(backbone, is_classifier=True, class_names=("cat", "dog")))
        >>> [one.name for one in outputs], note
        (['cat', 'dog'], None)
    """
    number = len(backbone.weight)
    if not backbone.is_classifier:
        raise CheckpointError(
            f"'{backbone.spec}' has no trained classifier, only features.\n"
            "Re-train a head on it first: lort-hub retrain."
        )
    if backbone.class_names is not None:
        return _with_synsets(backbone.class_names), None
    if file is not None:
        return _read_names(file, number, backbone.spec), f"{backbone.spec}: names of classes from {file}"
    model: Any = backbone.model
    tag = str(model.pretrained_cfg.get("tag") or "") if backbone.library == "timm" else ""
    if IMAGENET_TAG.search(tag) and (labels := _imagenet(number)):
        note = (
            f"{backbone.spec} names no classes; by its tag, {tag}, they are ImageNet's: its {number:,} "
            "outputs are read in timm's order of these"
        )
        return labels, note
    raise CheckpointError(
        f"'{backbone.spec}' does not name its {number:,} classes, and the order of the data's classes may be "
        "another.\nGive `class_names`, a text file with a name a line in the order of its outputs."
    )


def _imagenet(number: int) -> list[OutputName]:
    """Names of ImageNet's classes, of the subset of this size; none where there is no such subset."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": number})
    if subset is None:
        return []
    info = ImageNetInfo(subset)
    names = info.label_descriptions(as_dict=True)
    words = {synset: tuple(name.split(", ")) for synset, name in names.items()}
    return [
        OutputName(names[synset], (synset, words[synset][0]), words[synset][1:])
        for synset in info.label_names()
    ]


def _with_synsets(class_names: Sequence[str]) -> list[OutputName]:
    """Names as they are; ImageNet's with their synsets and synonyms, whoever wrote them."""
    labels = _imagenet(len(class_names))
    same = sum(one.name == name or name in one.others for one, name in zip(labels, class_names, strict=False))
    if same < SAME * len(class_names):
        return [OutputName(name) for name in class_names]
    return [
        OutputName(name, tuple(other for other in (*one.others, one.name) if other != name))
        for one, name in zip(labels, class_names, strict=True)
    ]


def _read_names(file: Path, number: int, spec: str) -> list[OutputName]:
    try:
        names = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"Cannot read the class names of '{file}': {cause}.") from cause
    while names and not names[-1].strip():
        names.pop()
    if len(names) != number:
        raise ConfigError(
            f"'{file}' has {len(names):,} names, expected {number:,}, one a line for each output of '{spec}'."
        )
    return [OutputName(name) for name in names]
