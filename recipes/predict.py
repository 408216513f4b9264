"""Predict the classes of images, of a folder or a table, into one file.

lort-hub predict out/photos ./unsorted --output predictions.csv
lort-hub predict user/name a.jpg b.jpg --output predictions.jsonl --top-k 3
lort-hub predict out/photos ./unsorted --output predictions.csv --min-confidence 0.8 --sort-into ./sorted

A run that was killed goes on with --resume. --sort-into copies; no image is moved, and no file replaced.
"""

import os
import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal

from lort_hub.commands.arguments import Device, check_ranges, device_flag, flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import join_processes, run
from lort_hub.commands.together import in_turns, on_first
from lort_hub.errors import ConfigError


@dataclass
class Arguments:
    """Flags of this recipe."""

    SEVERAL_PROCESSES: ClassVar[bool] = True

    model: str = field(metadata={"help": "Output folder or org/name[@revision]; the first word, too."})
    images: list[str] = field(
        metadata={"help": "Folders of pictures, pictures, or a table or data set; the words after it, too."}
    )
    output: Path = flag(Path("predictions.csv"), "File to write: .csv, .jsonl or .parquet.")
    top_k: int = flag(5, "Classes to list of each image, the likeliest first.")
    split: str | None = flag(None, "Split of the images, where there are several.")
    image_column: str | None = flag(None, "Column of the images (default: found by its type).")
    image_root: str | None = flag(None, "Folder of the images that a list names (default: that of the list).")
    sort_into: Path | None = flag(None, "Folder to copy the images into, by class; not there yet, or empty.")
    min_confidence: float = flag(0.0, "Probability below which an image is sorted into the folder 'unsure'.")
    resume: bool = flag(False, "Continue an interrupted run; a finished one is left as it is.")
    overwrite: bool = flag(False, "Replace the output file; with --resume, that of the interrupted run.")
    batch_size: int = flag(64, "Images in a batch, in each process.")
    num_workers: int = flag(
        min(4, os.cpu_count() or 1), "Threads or processes that decode images, for each process."
    )
    mixed_precision: Literal["no", "bf16", "fp16"] | None = flag(
        None, "Precision of the model (default: that of accelerate launch, or no)."
    )
    device: Device = device_flag()

    def __post_init__(self) -> None:
        """Refuse what can be known to be wrong before anything is loaded."""
        ranges = {
            "top_k": (1, inf),
            "batch_size": (1, inf),
            "num_workers": (0, inf),
            "min_confidence": (0, 1),
        }
        check_ranges(self, ranges)
        if self.min_confidence and not self.sort_into:
            raise ConfigError("`min_confidence` has no effect without `sort_into`; give a folder.")


def main() -> dict[str, Any] | None:
    """Load the model, predict the images part by part, write the file, and sort copies of the images."""
    args = parse_arguments(Arguments, description=__doc__, first_word="model", more_words="images", json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from lort_hub.classifiers.load import load_classifier
    from lort_hub.classifiers.predict import predict_parts, prediction_plan
    from lort_hub.classifiers.prediction_file import check_decoded, check_format
    from lort_hub.classifiers.prediction_parts import PredictionParts, is_finished
    from lort_hub.classifiers.predictions import distinct_names, summarise
    from lort_hub.classifiers.sort_into import check_sort_folder, renamed_folders, sort_into
    from lort_hub.data.unlabelled import load_unlabelled
    from lort_hub.features.distributed import Processes

    check_format(args.output)
    accelerator = join_processes(args.mixed_precision, args.device)
    processes, started = Processes.of(accelerator), time.perf_counter()
    how = {"resume": args.resume, "overwrite": args.overwrite}
    if on_first(accelerator, is_finished, args.output, **how):
        on_first(accelerator, check_decoded, args.output)
        if args.sort_into and not on_first(accelerator, args.sort_into.exists):
            raise ConfigError(f"{args.output} is finished; to sort its images, give `overwrite=True`.")
        accelerator.print(f"{args.output} is finished; nothing to do.")
        unknown = dict.fromkeys(("images", "errors", "unsure", "classes", "seconds"))
        return {**unknown, "output": str(args.output)}
    kept = PredictionParts(args.output, 0)
    is_sorted = args.sort_into is None or (args.resume and kept.has_sorted(args.sort_into))
    if args.sort_into and not processes.broadcast_object(is_sorted):
        on_first(accelerator, check_sort_folder, args.sort_into, args.images, args.output)

    backbone, _ = in_turns(accelerator, load_classifier, args.model)
    how_read = {name: getattr(args, name) for name in ("split", "image_column", "image_root")}
    images = in_turns(accelerator, load_unlabelled, args.images, **how_read)
    accelerator.print(f"{args.model}: {len(backbone.class_names):,} classes; {len(images):,} images")
    for line in images.notes:
        accelerator.print(line)
    parts = PredictionParts(args.output, len(images))
    settings = {"top_k": args.top_k, "batch_size": args.batch_size}
    settings["mixed_precision"] = accelerator.mixed_precision
    how |= {"processes": processes, "listing": images.listing()}
    parts.start(prediction_plan(backbone, images, settings), **how)
    options = {"top_k": args.top_k, "batch_size": args.batch_size, "num_workers": args.num_workers}
    predict_parts(backbone, images, parts, accelerator, processes, **options)
    parts.collect(processes)
    if not accelerator.is_main_process:
        return None

    parts.put_together(overwrite=args.overwrite)
    names = distinct_names(backbone.class_names)
    if not is_sorted:
        with parts.sorting(args.sort_into):
            sort_into(args.sort_into, images, parts.tables(), names, args.min_confidence)
    summary = summarise(parts.tables(), args.min_confidence)
    parts.remove()
    seconds = time.perf_counter() - started
    print(f"{len(images):,} images in {seconds:.0f} s; the most: {most(summary['classes'])}")
    if summary["errors"]:
        print(f"{summary['errors']:,} cannot be decoded: the column error says why")
    print(f"Wrote {args.output}")
    if args.sort_into:
        print(f"Sorted copies into {args.sort_into}, {summary['unsure']:,} of them as unsure")
        for line in renamed_folders(names):
            print(line)
    check_decoded(args.output)
    return {**summary, "output": str(args.output), "seconds": round(seconds, 1)}


def most(counts: dict[str, int], shown: int = 5) -> str:
    """Spell the largest of the counts, which are in descending order."""
    return ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:shown]) or "none"


if __name__ == "__main__":
    run(main, Arguments)
