"""Push an output folder, or the head in it, to the Hub in one commit.

lort-hub push out/photos --to me/name
lort-hub push out/photos --to me/name --create-pr               (a pull request instead)
lort-hub push out/photos/head --to me/name-head --private
lort-hub push me/name --space me/name-demo                      (a page of the model, as a Space)
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lort_hub.commands.arguments import flag
from lort_hub.commands.parser import parse_arguments
from lort_hub.commands.push import push, push_page
from lort_hub.commands.runtime import run
from lort_hub.errors import ConfigError


@dataclass
class Arguments:
    """Flags of this recipe."""

    folder: str = flag("out", "Folder to push; the first word, too. With --space also org/name[@revision].")
    to: str | None = flag(None, "Repository: namespace/name; made if it does not exist.")
    space: str | None = flag(None, "Space of the model's page: namespace/name; made if it does not exist.")
    private: bool = flag(False, "Make the repository, or the Space, private.")
    revision: str | None = flag(None, "Branch to push to; made if it does not exist (default: main).")
    create_pr: bool = flag(False, "Open a pull request instead of writing to main.")
    dry_run: bool = flag(False, "Check everything, list the files, write nothing.")


def main() -> dict[str, Any]:
    """Check the folder, push it, say how to load it, and push the page of the model."""
    args = parse_arguments(Arguments, description=__doc__, first_word="folder", json=True)
    check_destination(args)
    if args.dry_run:
        return plan(args)
    from lort_hub.classifiers.space import check_page  # not above: --help need not wait for torch
    from lort_hub.hub.upload import check_push
    from lort_hub.hub.validate import load_snippets

    result: dict[str, Any] = {}
    model = args.folder
    if args.space:
        check_push(args.space, private=args.private, kind="space")
    if args.space and args.to:
        check_page(Path(args.folder), args.folder)
    if args.to:
        where = {"private": args.private, "revision": args.revision, "create_pr": args.create_pr}
        published = push(Path(args.folder), args.to, **where)
        print(f"Pushed {args.folder} to {published.url} (commit {published.commit})\n")
        revision = published.commit if args.create_pr else args.revision
        print(load_snippets(Path(args.folder), args.to, revision))
        result, model = {"to": args.to, **asdict(published)}, f"{args.to}@{published.commit}"
    if args.space:
        page = push_page(model, args.space, private=args.private)
        print(f"Pushed the page of {model} to {page.url} (commit {page.commit})")
        result |= {"space": asdict(page)}
    return result


def check_destination(args: Arguments) -> None:
    """Refuse a push to nowhere, and flags without effect."""
    if not (args.to or args.space):
        raise ConfigError("Nothing says where to push.\nGive --to namespace/name, or --space.")
    if args.space and not args.to and Path(args.folder).is_dir():
        raise ConfigError(
            f"A Space loads its model from the Hub, and '{args.folder}' is a folder.\n"
            "Give --to namespace/name as well, to push it first, or name a model in place of the folder."
        )
    if not args.to and (args.revision or args.create_pr):
        raise ConfigError("--revision and --create-pr are for models: they need --to namespace/name.")


def plan(args: Arguments) -> dict[str, Any]:
    """Check everything, and list what would be pushed."""
    from lort_hub.classifiers.space import check_page, write_space
    from lort_hub.hub.head_file import is_head
    from lort_hub.hub.upload import check_push
    from lort_hub.hub.validate import validated_copy

    where: dict[str, Any] = {"private": args.private, "revision": args.revision, "create_pr": args.create_pr}
    if args.space:
        check_push(args.space, private=args.private, kind="space")
    if args.space and args.to:
        check_page(Path(args.folder), args.folder)
    if args.to:
        with validated_copy(args.folder) as staged:
            sizes = file_sizes(staged)
        branch = "a pull request" if args.create_pr else args.revision or "main"
        check_push(args.to, head=is_head(Path(args.folder)), **where)
    else:
        with TemporaryDirectory() as staged:
            write_space(Path(staged), args.folder)
            sizes = file_sizes(Path(staged))
    print(listing(sizes))
    if args.to:
        print(f"would go to {args.to}, {branch}")
    if args.space:
        print(f"the page {'of it ' * bool(args.to)}would go to the Space {args.space}")
    return {"to": args.to or args.space, "files": sizes}


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
