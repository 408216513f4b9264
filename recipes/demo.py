"""Open a page in the browser that classifies pictures with a model.

lort-hub demo out/photos
lort-hub demo user/name                     (a model on the Hub, complete or a head alone)
"""

import os
from dataclasses import dataclass, field
from functools import partial

from lort_hub.commands.arguments import check_ranges, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import run
from lort_hub.errors import ConfigError

HOST = "127.0.0.1"


@dataclass
class Arguments:
    """Flags of this recipe."""

    source: str = field(metadata={"help": "Output folder or org/name[@revision]; the first word, too."})
    port: int = flag(7860, "Port of the page.")

    def __post_init__(self) -> None:
        """Refuse a number that is no port before anything is loaded."""
        check_ranges(self, {"port": (1, 65535)})


def main() -> None:
    """Load the model, and serve the page until Ctrl-C."""
    args = parse_arguments(Arguments, description=__doc__, first_word="source")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
    try:
        import gradio  # noqa: F401
    except ImportError as cause:
        raise ConfigError(f"The page needs gradio ({cause}): pip install '.[demo]' in the clone") from cause
    # Here and not above: --help need not wait for torch.
    from lort_hub.classifiers.about import about_classifier
    from lort_hub.classifiers.load import find_classifier, image_logits, load_classifier
    from lort_hub.classifiers.page import build_page

    backbone, record = load_classifier(args.source)
    about = about_classifier(args.source, find_classifier(args.source), backbone, record)
    page = build_page(about, partial(image_logits, backbone))
    serve = partial(page.launch, share=False, run_history=False, show_error=True, quiet=True)
    try:
        serve(server_name=HOST, server_port=args.port, prevent_thread_lock=True)
    except (OSError, OverflowError) as cause:
        raise ConfigError(f"Cannot serve on port {args.port} of {HOST}; name a free one: --port") from cause
    print(f"{args.source} is on http://{HOST}:{args.port} (Ctrl-C ends it)", flush=True)
    page.block_thread()


if __name__ == "__main__":
    run(main, Arguments)
