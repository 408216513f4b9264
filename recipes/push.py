"""Push an output folder, or the head in it, to the Hub in one commit.

lort-hub push out/photos --to me/name
lort-hub push out/photos --to me/name --create-pr               (a pull request instead)
lort-hub push out/photos/head --to me/name-head --private
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lort_hub.commands.arguments import flag, parse_arguments
from lort_hub.commands.push import push
from lort_hub.commands.runtime import run


@dataclass
class Arguments:
    """Flags of this recipe."""

    to: str = field(metadata={"help": "Repository: namespace/name; made if it does not exist."})
    folder: Path = flag(Path("out"), "Folder to push; the first word, too.")
    private: bool = flag(False, "Make the repository private.")
    revision: str | None = flag(None, "Branch to push to; made if it does not exist (default: main).")
    create_pr: bool = flag(False, "Open a pull request instead of writing to main.")
    dry_run: bool = flag(False, "Check everything, list the files, write nothing.")


def main() -> dict[str, Any]:
    """Check the folder, push it, and print how to load it."""
    args = parse_arguments(Arguments, description=__doc__, first_word="folder", json=True)
    # Here and not above: --help and a mistyped flag need not wait for torch.
    from lort_hub.hub.upload import check_push
    from lort_hub.hub.validate import load_snippets, validated_copy

    where: dict[str, Any] = {"private": args.private, "revision": args.revision, "create_pr": args.create_pr}
    if args.dry_run:
        with validated_copy(args.folder) as staged:
            sizes = file_sizes(staged)
        print(listing(sizes))
        print(f"would go to {args.to}, {'a pull request' if args.create_pr else args.revision or 'main'}")
        check_push(args.to, **where)
        return {"to": args.to, "files": sizes}
    published = push(args.folder, args.to, **where)
    print(f"Pushed {args.folder} to {published.url} (commit {published.commit})\n")
    revision = published.commit if args.create_pr else args.revision
    print(load_snippets(args.folder, args.to, revision))
    return {"to": args.to, **asdict(published)}


def file_sizes(folder: Path) -> dict[str, int]:
    """Measure the files of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def listing(sizes: dict[str, int]) -> str:
    """List the files with their sizes, and the sum."""
    lines = [f"{size:>12,}  {path}" for path, size in sorted(sizes.items())]
    return "\n".join([*lines, f"{sum(sizes.values()):>12,}  bytes in {len(sizes)} files"])


if __name__ == "__main__":
    run(main, Arguments)
