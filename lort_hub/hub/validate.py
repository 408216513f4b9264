"""Copy and validate an output folder before it is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load_file

from lort_hub.backbones.load import load_backbone
from lort_hub.errors import CheckpointError, LortHubError
from lort_hub.evaluation.report import MetricsRecord
from lort_hub.hub.adapted_card import ADAPTED, CLASS_MIX, Adaptation
from lort_hub.hub.head_file import HeadConfig, HeadFacts, is_head, read_head, read_head_config
from lort_hub.hub.retry import TOKEN
from lort_hub.records import BackboneRecord, RunRecord

OUTPUT_FILES = (
    *("README.md", "config.json", "preprocessor_config.json", "metrics.json", "run.json", "per_class.csv"),
    *("duplicates.csv", ADAPTED, CLASS_MIX),
    *("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "plots/*.png"),
    *("head/README.md", "head/config.json", "head/model.safetensors"),
    *("held_out.safetensors", "head/held_out.safetensors"),
)
"""The files that are published. All others in the folder (pickles, checkpoints, hidden files) are not."""
MODEL_FILES = ("README.md", "head/config.json", "head/model.safetensors")
RUN_FILES, ADAPTED_FILES = ("metrics.json", "run.json"), (ADAPTED, CLASS_MIX)
"""Records of a re-trained model, and of one that was adapted to unlabelled images."""


@contextmanager
def validated_copy(folder: Path | str) -> Iterator[Path]:
    """Copy the files to publish to a temporary folder, and validate them there.

    Args:
        folder: Output folder of `save_output`, or the `head` folder in it.

    Yields:
        The temporary folder.

    Raises:
        CheckpointError: The output is incomplete, changes while it is copied, holds a Hub token, does not
            load in its own library, has weights that are not finite, or its files do not belong together.

    Example:
        >>> with validated_copy("out") as staged:  # doctest: +SKIP
        ...     print(sorted(path.name for path in staged.iterdir()))
    """
    folder = Path(folder)
    with TemporaryDirectory(prefix="lort_hub-push-") as temporary:
        staged = Path(temporary)
        before = _snapshot(folder)
        try:
            for path in before:
                (staged / path).parent.mkdir(exist_ok=True)
                shutil.copyfile(folder / path, staged / path)
        except FileNotFoundError:
            before = {}
        if not before or _snapshot(folder) != before:
            raise CheckpointError(
                f"{folder} holds no output, or was written while it was read.\n"
                "Expected the output folder of a finished run, or the head folder in it."
            )
        try:
            _check_output(staged)
        except (LortHubError, ValueError, KeyError) as cause:
            reason = str(cause).splitlines()[0].replace(temporary, str(folder))
            raise CheckpointError(
                f"{folder} is not an output that can be published: {reason}\n"
                "Nothing was pushed. Expected the output folder of train, retrain or adapt, or its head "
                "folder; if it is one, run it again. Reports and ONNX files are none of these."
            ) from cause
        yield staged


def _snapshot(folder: Path) -> dict[Path, tuple[int, ...]]:
    files = [path for pattern in OUTPUT_FILES for path in sorted(folder.glob(pattern)) if path.is_file()]
    state = {path.relative_to(folder): path.stat() for path in files if not path.name.startswith(".")}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in state.items()}


def _check_output(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        if path.suffix in (".json", ".md", ".csv") and TOKEN.search(
            path.read_text(encoding="utf-8", errors="replace")
        ):
            raise CheckpointError(f"{path} holds a Hub token; delete it there, and revoke it.")
    alone = is_head(folder)
    for path in folder.rglob("*.safetensors"):
        for name, tensor in load_file(path).items():
            if not tensor.isfinite().all():
                raise CheckpointError(f"'{name}' in {path} is not finite.")
    head = folder if alone else folder / "head"
    if (head / "config.json").exists():
        config = read_head_config(head, folder)
        HeadFacts.of(config, str(folder))
        if "results" in config:
            HeadConfig.from_json(config).check_scores()
    if alone:
        read_head(folder, folder)
        return
    is_adapted = (folder / ADAPTED).exists()
    required = (*MODEL_FILES, *(ADAPTED_FILES if is_adapted else RUN_FILES))
    if missing := [name for name in required if not (folder / name).exists()]:
        raise CheckpointError(f"it lacks {', '.join(missing)}.")
    backbone = load_backbone(f"local-dir:{folder}")
    if is_adapted:
        Adaptation.read(folder / ADAPTED)
        file, (made_on, names) = "head/config.json", _of_head(folder)
    else:
        MetricsRecord.read(folder / "metrics.json")
        run = RunRecord.read(folder / "run.json")
        file, made_on, names = "run.json", run.backbone, run.class_names
        if len(run.data.class_counts) != len(names):
            counts = len(run.data.class_counts)
            raise CheckpointError(f"run.json has {counts} class_counts for {len(names)} class_names.")
    if backbone.fingerprint() != made_on.sha256:
        raise CheckpointError(f"the weights in model.safetensors are not those that {file} was written for.")
    saved, size = _class_names(folder), len(backbone.weight)
    if saved != names or len(names) != size:
        raise CheckpointError(
            f"its classifier has {size} classes, config.json names {len(saved)} and {file} {len(names)}; "
            "they must be the same."
        )
    weight, bias, _ = read_head(folder / "head", folder / "head")
    if not (weight.equal(backbone.weight) and bias.equal(backbone.bias)):
        raise CheckpointError("head/ is not the classifier of model.safetensors.")


def _of_head(folder: Path) -> tuple[BackboneRecord, tuple[str, ...]]:
    config = read_head_config(folder / "head", folder)
    return BackboneRecord.from_json(config["backbone"]), tuple(config["class_names"])


def _class_names(folder: Path) -> tuple[str, ...]:
    config = json.loads((folder / "config.json").read_text())
    names = config.get("label_names", ()) if "architecture" in config else config.get("id2label", {}).values()
    return tuple(map(str, names))


def load_snippets(folder: Path, repo_id: str, revision: str | None = None) -> str:
    """Write the Python that loads a pushed output: in its own library, in a pipeline, and its head alone.

    Args:
        folder: Folder that was pushed.
        repo_id: Hub id that it was pushed to.
        revision: Branch or commit; None for main.

    Example:
        >>> print(load_snippets(Path("out"), "me/name"))  # doctest: +SKIP
        import timm
        model = timm.create_model("hf-hub:me/name", pretrained=True).eval()
        ...
    """
    name = f"{repo_id}@{revision}" if revision else repo_id
    head = ["from lort_hub import LortHead", f'head = LortHead.from_pretrained("{name}")']
    if is_head(folder):
        return "\n".join(head)
    backbone, _ = _of_head(folder)
    lines = ["import lort_hub.cifar_resnets  # registers this architecture"] * backbone.needs_lort_hub
    if backbone.library == "timm":
        lines += ["import timm", f'model = timm.create_model("hf-hub:{name}", pretrained=True).eval()', ""]
    at = f', revision="{revision}"' if revision else ""
    lines += [
        "from transformers import pipeline",
        f'classify = pipeline("image-classification", "{repo_id}"{at})',
    ]
    return "\n".join([*lines, "", *head])
