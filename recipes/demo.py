"""Open a page in the browser that classifies pictures with a model.

lort-hub demo out/photos
lort-hub demo user/name                     (a model on the Hub, complete or a head alone)
"""

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from lort_hub.commands.arguments import flag, parse_arguments
from lort_hub.commands.runtime import run
from lort_hub.data.decoding import to_rgb
from lort_hub.errors import ConfigError
from lort_hub.evaluation.markdown import code

if TYPE_CHECKING:
    from lort_hub.backbones.backbone import Backbone

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
        raise ConfigError(f"The page needs gradio ({cause}): pip install '.[demo]' in the clone") from cause
    from lort_hub.classifiers.load import load_classifier  # not above: --help need not wait for torch

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
    from lort_hub.hub.card_text import calibration_note, source_name
    from lort_hub.hub.head_file import HeadConfig

    classes = f"{len(backbone.weight):,} classes"
    if "results" not in record:
        return f"{classes}; there is no record of how it was made and how good it is."
    config = HeadConfig.from_json(record)
    name, method, test = source_name(config.backbone), config.head.method, config.results[config.head.method]
    lines = [f"Backbone {code(name)}, method {code(method)}, data set {code(config.data.name)}, {classes}."]
    lines += [
        f"Balanced accuracy {100 * test.balanced_accuracy:.1f} % (n = {test.n:,} test images).",
        calibration_note(config),
    ]
    return "\n\n".join(lines)


if __name__ == "__main__":
    run(main, Arguments)
