"""Adapt a model to the class mix of unlabelled images.

It estimates the mix, and moves the bias of the head to it.

lort-hub adapt out/photos --images ./street --output-dir out/street
lort-hub adapt user/name --images images.parquet --estimator bbse --output-dir out/street
"""

import os
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

from lort_hub.commands.arguments import Device, check_ranges, device_flag, flag
from lort_hub.commands.command_line import recorded_command
from lort_hub.commands.output_dir import check_output
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import join_processes, phase, run, start_log
from lort_hub.errors import CheckpointError
from lort_hub.files import read_csv


@dataclass
class Arguments:
    """Flags of this recipe."""

    model: str = field(metadata={"help": "Output folder or org/name[@revision]; the first word, too."})
    images: str = field(metadata={"help": "Folder of pictures at any depth, a table, or a data set."})
    split: str | None = flag(None, "Split of the images, where there are several.")
    image_column: str | None = flag(None, "Column of the images (default: found by its type).")
    image_root: str | None = flag(None, "Folder of the images that a list names (default: that of the list).")
    estimator: Literal["em", "bbse"] = flag("bbse", "Maximum likelihood, or confusion of held-out images.")
    strength: float | None = flag(
        None,
        "Images a class that a power of the training mix counts as (default: told by the images).",
    )
    output_dir: Path = flag(Path("out/adapted"), "Folder for the results; not there yet, or empty.")
    overwrite: bool = flag(False, "Replace the content of the output folder.")
    seed: int = flag(0, "Seed of the bootstrap.")
    batch_size: int = flag(64, "Images in a batch.")
    num_workers: int = flag(min(4, os.cpu_count() or 1), "Threads or processes that decode images.")
    device: Device = device_flag()

    def __post_init__(self) -> None:
        """Refuse values out of range before anything is loaded."""
        from lort_hub.heads.priors import check_strength

        check_strength(self.strength)
        check_ranges(self, {"seed": (0, inf), "batch_size": (1, inf), "num_workers": (0, inf)})


def main() -> dict[str, Any]:
    """Load the model, estimate the class mix of the images, move the head to it, and write the model."""
    args = parse_arguments(Arguments, description=__doc__, first_word="model", json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    import torch

    from lort_hub.classifiers.load import find_classifier, load_classifier
    from lort_hub.data.unlabelled import load_unlabelled
    from lort_hub.features.extract import extract_features
    from lort_hub.heads.priors import estimate_bbse, estimate_em
    from lort_hub.hub.adapted import check_weights, log_likelihoods, mix_of, save_adapted
    from lort_hub.hub.adapted_card import Adaptation
    from lort_hub.hub.head_file import read_held_out

    check_output(args.output_dir, overwrite=args.overwrite, model=args.model, images=args.images)
    accelerator = join_processes(device=args.device)
    log = start_log()
    with phase("model", log):
        backbone, record = load_classifier(args.model)
    mix = mix_of(record, args.model)
    folder = find_classifier(args.model)
    head = folder / "head" if (folder / "head").is_dir() else folder
    held_out = read_held_out(head)
    check_weights(backbone, head, args.model)
    if args.estimator == "bbse" and held_out and not len(held_out.labels):
        raise CheckpointError(
            f"No training image of '{args.model}' was held out, as no class had two: its confusion matrix is "
            "not known.\n"
            "Use --estimator em, or re-train the head on more images."
        )
    if args.estimator == "bbse" and held_out is None:
        raise CheckpointError(
            f"'{args.model}' has no held_out.safetensors, from which the confusion matrix is computed.\n"
            "Use --estimator em, or re-train the head with this version."
        )
    how_read = {name: getattr(args, name) for name in ("split", "image_column", "image_root")}
    images = load_unlabelled(args.images, **how_read)
    print(f"{args.model}: {len(mix.shares):,} classes; {len(images):,} images of {args.images}")
    for line in images.notes:
        print(line)

    how = {"batch_size": args.batch_size, "num_workers": args.num_workers, "on_bad_image": "skip"}
    with phase("features", log):
        store = extract_features(backbone, images, accelerator=accelerator, **how)
    features, skipped = store.x, len(images) - len(store.x)
    if skipped:
        print(f"{skipped} of {len(images):,} images cannot be decoded and are skipped")
    if not len(features):
        raise CheckpointError(f"No image of '{args.images}' can be decoded.\nGive other images.")
    logits = features.float() @ backbone.weight.float().cpu().T + backbone.bias.float().cpu()
    likelihoods = log_likelihoods(logits, mix)
    counts = torch.tensor(record["class_counts"])
    chosen = {"strength": args.strength, "seed": args.seed}
    if args.estimator == "em":
        estimate = estimate_em(likelihoods, counts, **chosen)
    else:
        estimate = estimate_bbse(likelihoods.argmax(dim=1), held_out, counts, **chosen)

    for k in estimate.shares.argsort(descending=True)[:5].tolist():
        share, low, high = (100 * float(part[k]) for part in (estimate.shares, estimate.low, estimate.high))
        print(f"{backbone.class_names[k]}: {share:.1f} % [{low:.1f}, {high:.1f}]")
    made = {"estimator": args.estimator, "strength": estimate.strength, "scale": mix.scale}
    how_made = {**made, "command": recorded_command()}
    adaptation = Adaptation(args.model, args.images, estimate.samples, skipped, **how_made)
    log.add("estimate", samples=estimate.samples, skipped=skipped)
    options = {"held_out": held_out, "overwrite": args.overwrite, "log": log}
    save_adapted(args.output_dir, backbone, record, mix, estimate, adaptation, **options)
    print(f"Wrote {args.output_dir}")
    shares = read_csv(args.output_dir / "class_mix.csv", text=["class"])
    return {"output_dir": str(args.output_dir), **adaptation.to_json(), "class_mix": shares}


if __name__ == "__main__":
    run(main, Arguments)
