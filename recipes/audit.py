"""Look at data before training: counts, copies, labels, broken files.

lort-hub audit ./photos
lort-hub audit ./photos --backbone resnet50 (suspicious labels too, by its features)

It finds copies, near-duplicates, suspicious labels and broken images, and writes a page to read and to
send on, audit.html, a record of it, and lists of images as CSV.
"""

from dataclasses import asdict, dataclass
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.commands.arguments import Device, InputArguments, device_flag, flag
from lort_hub.commands.command_line import recorded_command, with_flags
from lort_hub.commands.output_dir import check_output
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import join_processes, phase, run, start_log
from lort_hub.evaluation.metrics import class_groups
from lort_hub.records import environment

if TYPE_CHECKING:
    from lort_hub.audit.record import AuditRecord, RepeatCounts

FLAGS = ("on_bad_image",)
"""Flags of the training that the findings name beside those of this recipe."""


@dataclass
class Arguments(InputArguments):
    """Flags of this recipe."""

    backbone: str | None = flag(
        None, "Backbone whose features judge the labels (default: they are not judged)."
    )
    pretrained: bool = flag(True, "Load pretrained weights; --no-pretrained for random ones.")
    groups: list[int] = flag(
        [20, 100], "Training images of a class below which it is few-shot, and above which many-shot."
    )
    output_dir: Path = flag(Path("out/audit"), "Folder for the results; not there yet, or empty.")
    device: Device = device_flag()

    def __post_init__(self) -> None:
        """Refuse values out of range before anything is loaded."""
        super().__post_init__()
        class_groups([], self.groups)


def main() -> dict[str, Any]:
    """Load the data, decode every image, compare them, judge the labels, and write the page."""
    args = parse_arguments(Arguments, description=__doc__, first_word="dataset", json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from lort_hub.audit.collect import Audit
    from lort_hub.audit.findings import list_findings
    from lort_hub.audit.output import make_record, write_audit
    from lort_hub.backbones.load import load_backbone
    from lort_hub.data.load import load_long_tailed
    from lort_hub.features.extract import extract_features
    from lort_hub.features.matrix import solving_device

    read = {"dataset": args.dataset, "image_root": args.image_root, "backbone": args.backbone}
    check_output(args.output_dir, overwrite=args.overwrite, group_file=args.group_file, **read)
    accelerator = join_processes(device=args.device)
    names = [*vars(args), *FLAGS]
    log = start_log()
    backbone = None
    if args.backbone:
        with phase("backbone", log):
            backbone = load_backbone(args.backbone, pretrained=args.pretrained, image_size=args.image_size)
    with phase("data", log):
        data = load_long_tailed(args.dataset, **args.data_options())
    plan = [f"{data.name}: {data.describe()}", *with_flags(data.notes, names)]
    print(*plan, sep="\n")
    with phase("images", log):
        audit = Audit.collect(data, args.num_workers)
    if backbone:
        options = {"batch_size": args.batch_size, "num_workers": args.num_workers, "on_bad_image": "skip"}
        with phase("features", log):
            splits = data.train, data.test
            stores = [extract_features(backbone, one, accelerator=accelerator, **options) for one in splits]
        with phase("labels", log):
            audit = audit.with_labels(*stores, device=solving_device(accelerator))
    with phase("output", log):
        record = make_record(
            audit,
            plan=plan,
            findings=with_flags(list_findings(audit), names),
            groups=tuple(args.groups),
            backbone=backbone and backbone.source,
            arguments=loads(dumps(asdict(args), default=str)),
            environment=environment(recorded_command()),
        )
        write_audit(args.output_dir, audit, record, overwrite=args.overwrite, log=log)
    print(summary(record))
    print(f"Wrote {args.output_dir}: audit.html to read, audit.json, and the lists as CSV")
    return {"output_dir": str(args.output_dir), **record.to_json()}


def summary(record: "AuditRecord") -> str:
    """Summarise the record in a few lines for the terminal."""
    groups = ", ".join(f"{one.classes:,} {one.group}" for one in record.groups)
    lines = [
        f"{record.training:,} training and {record.test:,} test images of {len(record.classes):,} classes "
        f"({groups}), imbalance ratio {record.imbalance_ratio:,.0f}",
        f"broken: {record.broken:,}",
        f"copies: {repeats(record.copies)}",
        f"near-duplicates: {repeats(record.near_duplicates)}",
        f"suspicious labels: {record.labels.suspicious:,} of {record.labels.judged:,} judged"
        if record.labels
        else "labels: not judged; give --backbone",
    ]
    return "\n".join([*lines, *(f"- {line}" for line in record.findings)])


def repeats(counts: "RepeatCounts") -> str:
    """Spell counts of images that are in the data more than once."""
    return (
        f"{counts.images:,} images ({counts.within_training:,} within training, {counts.within_test:,} "
        f"within test, {counts.across:,} across, {counts.other_class:,} with another label)"
    )


if __name__ == "__main__":
    run(main, Arguments)
