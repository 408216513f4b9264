"""Prepare ImageNet-LT, Places-LT or iNaturalist 2018: published lists joined with images on disk.

lort-hub prepare imagenet-lt --images ./imagenet --lists ./ImageNet_LT --output-dir imagenet-lt
lort-hub retrain --backbone resnet50 --dataset ./imagenet-lt

It writes train.csv, val.csv and test.csv, which name the images where they are. No image is copied.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lort_hub.commands.arguments import flag
from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import run
from lort_hub.errors import ConfigError
from lort_hub.files import atomic_folder, check_output_dir, sha256, write_json


@dataclass
class Arguments:
    """Flags of this recipe."""

    name: Literal["imagenet-lt", "places-lt", "inat2018"] = field(
        metadata={"help": "The benchmark; the first word, too."}
    )
    images: Path = field(metadata={"help": "Folder of the images, at any depth."})
    lists: Path = field(metadata={"help": "Folder of the published lists: text, CSV or JSON."})
    output_dir: Path | None = flag(None, "Folder for the lists; not there yet, or empty (default: the name).")
    any_counts: bool = flag(False, "Go on where counts or labels differ from the published ones.")
    allow_missing: bool = flag(False, "Leave out rows whose image is not there.")
    overwrite: bool = flag(False, "Replace the content of the output folder.")


def main() -> dict[str, Any]:
    """Read the published lists, check them, find their images, and write the lists of the data set."""
    args = parse_arguments(Arguments, description=__doc__, first_word="name", json=True)
    # Here and not above: --help and a mistyped flag need not wait for the readers.
    from lort_hub.data.benchmark_images import prepare_benchmark, write_benchmark
    from lort_hub.data.benchmark_lists import BENCHMARKS

    benchmark, output_dir = BENCHMARKS[args.name], args.output_dir or Path(args.name)
    for folder in (args.images, args.lists):
        if folder.resolve().is_relative_to(output_dir.resolve()):
            raise ConfigError(
                f"{folder} is in the output folder {output_dir}, which is replaced as a whole.\n"
                "Name another folder with --output-dir."
            )
    check_output_dir(output_dir, overwrite=args.overwrite)
    options = {"any_counts": args.any_counts, "allow_missing": args.allow_missing}
    prepared = prepare_benchmark(benchmark, args.images, args.lists, **options)
    notes = with_flags(prepared.notes, vars(args))
    for line in notes:
        print(line)
    for split, rows in prepared.splits.items():
        print(f"{split}: {len(rows.paths):,} images of {len(set(rows.labels)):,} classes ({rows.file.name})")
    record = {
        "name": args.name,
        "splits": {
            split: {
                "list": str(rows.file),
                "sha256": sha256(rows.file),
                "images": len(rows.paths),
                "missing": rows.missing,
            }
            for split, rows in prepared.splits.items()
        },
        "classes": len(set(prepared.splits["train"].labels)),
        "notes": notes,
    }
    with atomic_folder(output_dir, overwrite=args.overwrite) as staged:
        write_benchmark(staged, prepared)
        write_json(staged / "run.json", {**record, "command": recorded_command()})
    print(f"Wrote {output_dir}: give it as --dataset")
    return {"output_dir": str(output_dir), **record}


if __name__ == "__main__":
    run(main, Arguments)
