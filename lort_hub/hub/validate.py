"""Validate an output folder before it is published: complete, loadable, and without secrets."""

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
from lort_hub.hub.head_file import is_head, read_head
from lort_hub.hub.retry import TOKEN

OUTPUT_FILES = (
    *("README.md", "config.json", "preprocessor_config.json", "metrics.json", "run.json", "per_class.csv"),
    *("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors", "plots/*.png"),
    *("head/README.md", "head/config.json", "head/model.safetensors"),
)
"""Files that are published. Others in the folder (pickles, checkpoints, hidden files) are left out."""
REQUIRED = ("README.md", "metrics.json", "run.json", "head/config.json", "head/model.safetensors")


@contextmanager
def validated_copy(folder: Path | str) -> Iterator[Path]:
    """Copy the files of an output to a temporary folder, and check the copy.

    Args:
        folder: An output folder, or the `head` folder in it.

    Yields:
        The temporary folder.

    Raises:
        CheckpointError: The output is incomplete, changes while it is copied, holds a Hub token, does not
            load in its own library, has weights that are not finite, or has parts of different models.

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
                "Nothing was pushed. Run again what wrote the folder, and have it overwritten."
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
    if alone:
        read_head(folder, folder)
        return
    if missing := [name for name in REQUIRED if not (folder / name).exists()]:
        raise CheckpointError(f"it lacks {', '.join(missing)}.")
    json.loads((folder / "metrics.json").read_text())
    backbone = load_backbone(f"local-dir:{folder}")
    run = json.loads((folder / "run.json").read_text())
    if backbone.fingerprint() != run["backbone"]["sha256"]:
        raise CheckpointError("the weights in model.safetensors are not those that run.json was written for.")
    names = run["class_names"]
    saved, size = _class_names(folder), len(backbone.weight)
    if saved != names or len(names) != size:
        raise CheckpointError(
            f"its classifier has {size} classes, config.json names {len(saved)} and run.json {len(names)}; "
            "they must be the same."
        )
    weight, bias, _ = read_head(folder / "head", folder / "head")
    if not (weight.equal(backbone.weight) and bias.equal(backbone.bias)):
        raise CheckpointError("head/ is not the classifier of model.safetensors.")


def _class_names(folder: Path) -> list[str]:
    config = json.loads((folder / "config.json").read_text())
    if "architecture" in config:
        return list(config.get("label_names", []))
    return list(config.get("id2label", {}).values())


def load_snippets(folder: Path, repo_id: str, revision: str | None = None) -> str:
    """Write the Python that loads a pushed output: in timm, in transformers' pipeline, and its head alone.

    Args:
        folder: The pushed folder.
        repo_id: Repository on the Hub.
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
    made_from = json.loads((folder / "run.json").read_text())["backbone"]
    lines = ["import lort_hub.cifar_resnets  # registers this architecture"] * made_from["needs_lort_hub"]
    if made_from["library"] == "timm":
        lines += ["import timm", f'model = timm.create_model("hf-hub:{name}", pretrained=True).eval()', ""]
    at = f', revision="{revision}"' if revision else ""
    lines += [
        "from transformers import pipeline",
        f'classify = pipeline("image-classification", "{repo_id}"{at})',
    ]
    return "\n".join([*lines, "", *head])
