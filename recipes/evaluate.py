"""Evaluate any classifiers on labelled images: many-, medium- and few-shot accuracy, calibration, confusions.

lort-hub evaluate out/photos --dataset ./photos
lort-hub evaluate out/photos org/name resnet50 --dataset ./photos           (side by side, with paired tests)
lort-hub evaluate org/name --dataset ./labelled --train-split none --train-counts counts.csv

A model is what `retrain` writes, a head alone, or any classifier of timm or transformers. Its classes are
mapped to those of the data by name.
"""

from dataclasses import asdict, dataclass, field
from json import dumps, loads
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lort_hub.commands.arguments import ProcessArguments, flag
from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.output_dir import check_output
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import join_processes, phase, run, start_log
from lort_hub.commands.together import in_turns, load_data, on_first
from lort_hub.errors import ConfigError
from lort_hub.evaluation.metrics import class_groups
from lort_hub.records import environment

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Arguments(ProcessArguments):
    """Flags of this recipe."""

    RANGES: ClassVar = {**ProcessArguments.RANGES, "bootstrap": (0, inf)}

    dataset: str = field(metadata={"help": "The labelled images: all that retrain takes."})
    models: list[str] = field(
        kw_only=True,
        metadata={"help": "Output folders, heads, timm names, org/name[@revision]; the first words, too."},
    )
    train_split: str | None = flag(
        None, "Split whose images are counted; none: all images are for the test (default: train)."
    )
    train_counts: Path | None = flag(
        None, "CSV with the columns class and count, or a per_class.csv (default: the training split's)."
    )
    class_names: Path | None = flag(
        None, "Text file of class names, in the order of its outputs, for a model that names none."
    )
    groups: list[int] = flag(
        [20, 100], "Training images of a class below which it is few-shot, and above which many-shot."
    )
    bootstrap: int = flag(1000, "Resamples of the test images for confidence intervals; 0 for none.")
    update_card: bool = flag(False, "Write the results into the metadata of the models' README.md.")
    output_dir: Path = flag(Path("out/evaluation"), "Folder for the results; not there yet, or empty.")

    def __post_init__(self) -> None:
        """Refuse values out of range before anything is loaded."""
        super().__post_init__()
        class_groups([], self.groups)
        if twice := sorted({name for name in self.models if self.models.count(name) > 1}):
            raise ConfigError(f"'{twice[0]}' is named twice; name each model once.")


def main() -> dict[str, Any] | None:
    """Load the images and the models, test them side by side, and write the report and the cards."""
    args = parse_arguments(Arguments, description=__doc__, first_word="models", json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from lort_hub.classifiers.class_counts import count_training
    from lort_hub.classifiers.evaluate import evaluate_classifiers
    from lort_hub.classifiers.mapped import load_mapped
    from lort_hub.classifiers.model_cards import card_of, update_cards
    from lort_hub.classifiers.output import result_rows, tables, write_evaluation
    from lort_hub.data.labelled import load_labelled

    accelerator: Accelerator = join_processes(args.mixed_precision, args.device)
    read = ("dataset", "image_root", "train_counts", "class_names", "group_file")
    inputs = {"overwrite": args.overwrite, **{name: getattr(args, name) for name in read}}
    on_first(accelerator, check_output, args.output_dir, models=args.models, **inputs)
    if args.update_card:
        for name in args.models:
            on_first(accelerator, card_of, name)

    log = start_log()
    with phase("data", log):
        data = load_data(accelerator, load_labelled, args.dataset, **args.data_options())
    accelerator.print(f"{data.name}: {data.describe()}", *with_flags(data.notes, vars(args)), sep="\n")
    with phase("models", log):
        options = {"image_size": args.image_size, "class_names": args.class_names}
        models = [in_turns(accelerator, load_mapped, name, data, **options) for name in args.models]
    training = on_first(accelerator, count_training, data, models, args.train_counts)
    notes = [*training.notes, *(line for model in models for line in model.notes)]
    for line in with_flags(notes, vars(args)):
        accelerator.print(line)

    with phase("evaluation", log):
        evaluation = evaluate_classifiers(
            models,
            data,
            training,
            accelerator,
            thresholds=tuple(args.groups),
            bootstrap=args.bootstrap,
            seed=args.seed,
            batch_size=args.batch_size,
            num_workers=args.num_workers,
            on_bad_image=args.on_bad_image,
        )
    if evaluation is None:
        return None
    with phase("output", log):
        write_evaluation(
            args.output_dir,
            evaluation,
            overwrite=args.overwrite,
            arguments=loads(dumps(asdict(args), default=str)),
            environment=environment(recorded_command()),
            log=log,
        )
    if evaluation.skipped:
        print(evaluation.notes[-1])
    print(evaluation.describe(), tables(evaluation), sep="\n\n")
    if args.update_card:
        print(*update_cards(evaluation), sep="\n")
    print(f"Wrote {args.output_dir}: report.html to read, metrics.json, and the tables as CSV")
    return {"dataset": data.name, "n": len(evaluation.test), "models": result_rows(evaluation)}


if __name__ == "__main__":
    run(main, Arguments)
