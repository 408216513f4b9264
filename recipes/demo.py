"""Open a page in the browser, on this machine alone, that classifies pictures with a model.

lort-hub demo out/photos
lort-hub demo user/name                     (a model on the Hub, complete or a head alone)
"""

import json
import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from lort_hub.commands.arguments import flag, parse_arguments
from lort_hub.commands.runtime import run
from lort_hub.data.decoding import to_rgb
from lort_hub.download import MODEL_FILES, download_model
from lort_hub.errors import CheckpointError, ConfigError
from lort_hub.evaluation.markdown import code

if TYPE_CHECKING:
    from lort_hub.backbones.backbone import Backbone
    from lort_hub.hub.lort_head import LortHead

HOST, SHOWN = "127.0.0.1", 5


@dataclass
class Arguments:
    """Flags of this recipe."""

    source: str = field(metadata={"help": "Output folder or org/name[@revision]; the first word, too."})
    port: int = flag(7860, "Port of the page.")


def main() -> None:
    """Load the model, and serve the page until Ctrl-C."""
    args = parse_arguments(Arguments, description=__doc__, first_word="source")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
    try:
        import gradio
    except ImportError as cause:
        raise ConfigError(f"The page needs gradio ({cause}): pip install 'lort_hub[demo]'") from cause
    backbone, record = load_classifier(args.source)
    picture = gradio.Image(type="pil", image_mode=None, sources=["upload", "clipboard"], label="Picture")
    bars = gradio.Label(num_top_classes=SHOWN, label="Classes")
    show = partial(gradio.Interface, api_name="classify", live=True, flagging_mode="never", title=args.source)
    page = show(partial(classify, backbone), picture, bars, description=describe(backbone, record))
    serve = partial(page.launch, share=False, run_history=False, show_error=True, quiet=True)
    try:
        serve(server_name=HOST, server_port=args.port, prevent_thread_lock=True)
    except (OSError, OverflowError) as cause:
        raise ConfigError(f"Cannot serve on port {args.port} of {HOST}; name a free one: --port") from cause
    print(f"{args.source} is on http://{HOST}:{args.port} (Ctrl-C ends it)", flush=True)
    page.block_thread()


# What loads torch is imported where it is used: --help and a mistyped flag need not wait for it.
def load_classifier(source: str) -> tuple["Backbone", dict[str, Any]]:
    """Load the complete model with its preprocessing, and the record of its head ({} if there is none)."""
    from lort_hub.backbones.load import load_backbone
    from lort_hub.hub.head_file import is_head
    from lort_hub.hub.lort_head import LortHead

    folder = Path(source)
    if not folder.is_dir():
        repo_id, _, revision = source.partition("@")
        files = [*MODEL_FILES, "head/config.json"]
        folder, _ = download_model(repo_id, revision or None, error=CheckpointError, files=files)
    alone = is_head(folder)
    head = LortHead.from_pretrained(folder) if alone or (folder / "head/config.json").exists() else None
    backbone = attach(head) if head and alone else load_backbone(str(folder))
    if backbone.class_names is None:
        raise CheckpointError(f"'{source}' does not name its classes; give the output folder of a recipe.")
    return backbone, head.config if head else {}


def attach(head: "LortHead") -> "Backbone":
    """Attach a head to the backbone and preprocessing it was trained with."""
    from lort_hub.backbones.load import load_backbone

    model, made_on = head.attach(), head.config["backbone"]
    spec = f"{made_on['source']}@{made_on['revision']}".removesuffix("@None")
    spec = f"transformers:{spec}" if made_on["library"] == "transformers" else spec
    backbone = load_backbone(spec, image_size=made_on["preprocessing"].get("input_size", [None])[-1])
    if json.loads(json.dumps(backbone.preprocessing)) != made_on["preprocessing"]:
        raise CheckpointError("The head's images were prepared in another way; give its complete model.")
    return replace(backbone, model=model, class_names=tuple(head.config["class_names"]))


def classify(backbone: "Backbone", image: Image | None) -> dict[str, float]:
    """Compute the probabilities of the likeliest classes, in descending order."""
    import torch

    if image is None:
        return {}
    names = backbone.class_names or ()
    with torch.inference_mode():
        probabilities = backbone.logits(backbone.transform(to_rgb(image))[None])[0].softmax(0)
    top = probabilities.argsort(descending=True)[:SHOWN].tolist()
    labels = [names[k] if names.count(names[k]) == 1 else f"{names[k]} ({k})" for k in top]
    return dict(zip(labels, probabilities[top].tolist(), strict=True))


def describe(backbone: "Backbone", record: dict[str, Any]) -> str:
    """Describe the model on the page: its source, and how good it is."""
    from lort_hub.hub.card_text import source_name
    from lort_hub.hub.head_file import HeadConfig

    classes = f"{len(backbone.weight):,} classes"
    if "results" not in record:
        return f"{classes}; there is no record of how it was made and how good it is."
    config = HeadConfig.from_json(record)
    name, method, test = source_name(config.backbone), config.head.method, config.results[config.head.method]
    lines = [f"Backbone {code(name)}, method {code(method)}, data set {code(config.data.name)}, {classes}."]
    lines += [f"Balanced accuracy {100 * test.balanced_accuracy:.1f} % (n = {test.n:,} test images)."]
    if config.head.delta > 0.5 and test.ece > 0.1:
        flat = f"Over-smoothed labels make its probabilities flat (ECE {100 * test.ece:.1f} %)"
        lines += [f"{flat}: go by the order of the classes, not by their percentages."]
    return "\n\n".join(lines)


if __name__ == "__main__":
    run(main, Arguments)
