"""Push a Space to the Hub: the page of a classifier that is on the Hub already."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

import lort_hub
from lort_hub.classifiers.about import about_classifier
from lort_hub.classifiers.load import find_classifier, load_classifier
from lort_hub.classifiers.page import About, classify, load_logits
from lort_hub.download import pin_revision
from lort_hub.errors import CheckpointError, ConfigError
from lort_hub.hub.head_file import is_head, read_head_config
from lort_hub.hub.upload import Published, check_push, push_folder

GRADIO = "6.31.0"
"""Version of gradio that the Hub runs the page with."""
REQUIREMENTS = {
    "timm": ("timm", "torch", "torchvision"),
    "transformers": ("torch", "torchvision", "transformers"),
}
SPACE_FILES = ("README.md", "about.json", "app.py", "page.py", "requirements.txt")
APP = '''"""Classify pictures with {repo_id} in the browser; made by lort_hub {version}."""

from pathlib import Path

from page import About, build_page, load_logits

about = About.read(Path(__file__).with_name("about.json"))
logits = load_logits("{repo_id}", revision="{revision}")

if __name__ == "__main__":
    build_page(about, logits).launch()
'''


def push_space(model: str, space_id: str, *, private: bool = False) -> Published:
    """Push the page of a model as a Space, one commit that overwrites nobody else's.

    The page loads the model from the Hub, at the commit that is the newest now, with plain timm or
    transformers. So it is loaded here, too, before anything is pushed.

    Args:
        model: `org/name[@revision]` on the Hub.
        space_id: `namespace/name`; made if it does not exist.
        private: Make the Space private.

    Returns:
        The page of the Space and the commit.

    Raises:
        CheckpointError: The Hub has no such model, or it does not load.
        ConfigError: `check_push` refuses the push, or the model cannot be shown by a Space.
        RevisionConflictError: Somebody else pushed meanwhile.
        PublishError: The Hub refused the push.
        HubUnavailableError: The Hub did not answer.

    Example:
        >>> push_space("me/photos", "me/photos-demo")  # doctest: +SKIP
        Published(url='https://huggingface.co/spaces/me/photos-demo', commit='8d3f...')
    """
    if Path(model).is_dir():
        raise ConfigError(
            f"'{model}' is a folder, and a Space loads its model from the Hub.\n"
            "Push it first, then give its name there."
        )
    check_push(space_id, private=private, kind="space")
    with TemporaryDirectory(prefix="lort_hub-space-") as folder:
        write_space(Path(folder), model)
        title = f"Push page with lort_hub {lort_hub.__version__}"
        return push_folder(Path(folder), space_id, title, replaces=SPACE_FILES, kind="space", private=private)


def check_page(folder: Path, model: str) -> None:
    """Refuse a model that plain timm or transformers cannot load.

    Args:
        folder: Its folder.
        model: Its name, for the message.

    Raises:
        ConfigError: It is a head alone, or one of lort_hub's CIFAR nets.

    Example:
        >>> check_page(Path("out"), "out")
    """
    if is_head(folder):
        raise ConfigError(
            f"'{model}' is a head alone, which needs lort_hub.\nPush the complete model, and name that."
        )
    head = folder / "head"
    made_on = read_head_config(head, folder).get("backbone", {}) if (head / "config.json").exists() else {}
    if made_on.get("needs_lort_hub"):
        raise ConfigError(
            f"'{model}' needs lort_hub to be loaded, which no package index has for a Space.\n"
            "Show it with `lort-hub demo` on your own machine."
        )


def write_space(folder: Path, model: str) -> None:
    """Write the files of a Space: its card, its program, what it says and its requirements.

    Args:
        folder: Existing folder.
        model: As in `push_space`.

    Raises:
        CheckpointError: As `push_space`.
        ConfigError: The model cannot be shown by a Space.

    Example:
        >>> write_space(Path("space"), "me/photos")  # doctest: +SKIP
    """
    repo_id, _, wanted = model.partition("@")
    revision = pin_revision(repo_id, wanted or None, kind="model", error=CheckpointError) or wanted
    source = f"{repo_id}@{revision}"
    snapshot = find_classifier(source)
    check_page(snapshot, model)
    backbone, record = load_classifier(source)
    about = about_classifier(repo_id, snapshot, backbone, record)
    classify(about, load_logits(repo_id, revision), Image.new("RGB", (64, 64)))
    (folder / "page.py").write_bytes((files("lort_hub.classifiers") / "page.py").read_bytes())
    app = APP.format(repo_id=repo_id, revision=revision, version=lort_hub.__version__)
    (folder / "app.py").write_text(app, encoding="utf-8")
    (folder / "about.json").write_text(json.dumps(asdict(about), indent=2) + "\n", encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements(backbone.library), encoding="utf-8")
    license = record.get("backbone", {}).get("license")
    (folder / "README.md").write_text(space_card(about, repo_id, license), encoding="utf-8")


def requirements(library: str) -> str:
    """List what the page imports, in the versions installed here; the Hub adds gradio.

    Args:
        library: "timm" or "transformers".

    Example:
        >>> requirements("timm").splitlines()[0].partition("==")[0]
        'timm'
    """
    return "".join(f"{name}=={version(name).partition('+')[0]}\n" for name in REQUIREMENTS[library])


def space_card(about: About, repo_id: str, license: str | None) -> str:
    """Render the README of a Space, whose metadata tell the Hub how to run it.

    Args:
        about: What its page says.
        repo_id: The model.
        license: License of the model; None where none is known.

    Example:
        >>> print(space_card(About("me/photos", "Ten classes.", ()), "me/photos", None).splitlines()[1])
        title: photos
    """
    from huggingface_hub import SpaceCardData

    metadata = SpaceCardData(
        title=repo_id.rpartition("/")[2],
        sdk="gradio",
        sdk_version=GRADIO,
        app_file="app.py",
        license=license,
        models=[repo_id],
        tags=["image-classification", "long-tailed-recognition", "lort"],
    )
    text = f"# {repo_id}\n\n{about.description}\n"
    return f"---\n{metadata.to_yaml()}\n---\n\n{text}"
