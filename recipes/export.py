"""Export a model to ONNX, for onnxruntime and transformers.js.

lort-hub export out/photos --output-dir out/onnx
lort-hub export out/photos --output-dir out/onnx --images ./photos --quantize --dataset ./photos

Its logits are compared with torch's before anything is kept.
"""

import os
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

from lort_hub.commands.arguments import check_ranges, flag
from lort_hub.commands.command_line import recorded_command
from lort_hub.commands.output_dir import check_output
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.runtime import phase, run, start_log
from lort_hub.files import atomic_folder
from lort_hub.records import environment

DATA = (
    *("image_root", "image_column", "label_column", "train_split", "test_split", "class_folder"),
    "on_duplicate",
)


@dataclass
class Arguments:
    """Flags of this recipe."""

    model: str = field(metadata={"help": "Output folder or org/name[@revision]; the first word, too."})
    output_dir: Path = flag(Path("out/onnx"), "Folder for the results; not there yet, or empty.")
    opset: int | None = flag(None, "Version of ONNX's operators (default: that of torch's exporter).")
    quantize: bool = flag(False, "Write an int8 version too, with dynamic quantisation.")
    images: str | None = flag(None, "Images to compare the logits on (default: generated ones).")
    dataset: str | None = flag(None, "Data set to test the files on, by group (default: no test).")
    image_root: str | None = flag(None, "Folder of the images that a list names (default: found beside it).")
    image_column: str | None = flag(None, "Column of the images (default: found by its type).")
    label_column: str | None = flag(None, "Column of the labels (default: found by its type).")
    train_split: str | None = flag(None, "Split to count the classes in (default: train).")
    test_split: str | None = flag(None, "Split to test on (default: as for retrain).")
    class_folder: Literal["first", "last"] | None = flag(
        None, "Which of the folders below the split is the class, where there are several."
    )
    on_duplicate: Literal["keep", "drop"] = flag(
        "keep", "What to do with training images that are test images too, byte for byte."
    )
    on_bad_image: Literal["error", "skip"] = flag("error", "What to do with an image that cannot be decoded.")
    num_workers: int = flag(min(4, os.cpu_count() or 1), "Threads or processes that decode images.")
    overwrite: bool = flag(False, "Replace the content of the output folder.")

    def __post_init__(self) -> None:
        """Refuse numbers out of range before anything is loaded."""
        check_ranges(self, {"opset": (1, inf), "num_workers": (0, inf)})


def main() -> dict[str, Any]:
    """Load the model, export it, compare its logits with torch's, test it, and write the folder."""
    args = parse_arguments(Arguments, description=__doc__, first_word="model", json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from lort_hub.classifiers.load import load_classifier
    from lort_hub.classifiers.onnx_file import (
        Difference,
        OnnxClassifier,
        check_export,
        check_onnx,
        export_onnx,
        quantise_onnx,
    )
    from lort_hub.classifiers.onnx_folder import (
        ExportRecord,
        find_outputs,
        measure_files,
        onnx_metadata,
        sample_pixels,
        write_configs,
        write_record,
    )
    from lort_hub.classifiers.preparation import inexact
    from lort_hub.data.load import load_long_tailed
    from lort_hub.data.scan import find_broken, scan_images
    from lort_hub.evaluation.tables import results_table

    check_export(args.opset)
    read = {"model": args.model, "images": args.images, "dataset": args.dataset}
    check_output(args.output_dir, overwrite=args.overwrite, **read)
    log = start_log()
    with phase("model", log):
        backbone, record = load_classifier(args.model)
        data = None
        if args.dataset:
            data = load_long_tailed(args.dataset, **{name: getattr(args, name) for name in DATA})
            find_outputs(backbone, data)  # or it is refused now, and not after the export
            if args.on_bad_image == "skip":
                broken = find_broken(scan_images(data.test, args.num_workers).facts)
                data = data.leave_out([], broken)
        pixels = sample_pixels(backbone, args.images)
    with atomic_folder(args.output_dir, overwrite=args.overwrite) as staged:
        (staged / "onnx").mkdir()
        model, quantised = staged / "onnx/model.onnx", staged / "onnx/model_quantized.onnx"
        with phase("export", log):
            opset = export_onnx(backbone, model, onnx_metadata(backbone, record), opset=args.opset)
        with phase("check", log):
            float32, int8 = check_onnx(model, backbone, pixels), None
        files = {"float32": OnnxClassifier.load(model)}
        if args.quantize:
            with phase("quantisation", log):
                quantise_onnx(model, quantised)
                files["int8"] = OnnxClassifier.load(quantised)
                logits = {name: one.logits(pixels, batch_size=1) for name, one in files.items()}
                int8 = Difference.of(logits["int8"], logits["float32"])
        reports = {}
        if data:
            counts = record.get("class_counts")
            with phase("test", log):
                reports = measure_files(files, backbone, data, counts, args.num_workers)
        exported = ExportRecord(
            model=args.model,
            opset=opset,
            images=args.images,
            samples=len(pixels),
            float32=float32,
            int8=int8,
            dataset=data and data.name,
            inexact=inexact(backbone),
            environment=environment(recorded_command()),
        )
        write_configs(staged, backbone)
        license = record.get("backbone", {}).get("license")
        write_record(staged, exported, reports, backbone.class_names, license)
        log.write(staged)
        sizes = {path.name: path.stat().st_size / 1e6 for path in (staged / "onnx").iterdir()}

    for name, size in sizes.items():
        print(f"{name}: {size:.1f} MB")
    print(f"float32: logits within {float32.largest:.2g} of torch's on {len(pixels)} images")
    if int8:
        print(f"int8: logits within {int8.largest:.2g}; the largest is {int8.scale:.3g}")
    for line in data.left_out() if data else []:
        print(line)
    if reports:
        print(results_table(reports))
    print(f"Wrote {args.output_dir}")
    metrics = {name: report.to_json() for name, report in reports.items()}
    return {"output_dir": str(args.output_dir), **exported.to_json(), "metrics": metrics}


if __name__ == "__main__":
    run(main, Arguments)
