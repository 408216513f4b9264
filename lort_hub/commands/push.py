"""Push an output folder at the end of a recipe, or say which command pushes it again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lort_hub.commands.arguments import ModelArguments
from lort_hub.commands.command_line import command_for
from lort_hub.errors import CheckpointError, ConfigError, LortHubError
from lort_hub.records import RunRecord

if TYPE_CHECKING:
    from lort_hub.hub.upload import Published


def push(
    folder: Path, repo_id: str, *, private: bool = False, revision: str | None = None, create_pr: bool = False
) -> Published:
    """Push an output folder; the message of an error ends with the command that pushes it again.

    Args:
        folder: As in `push_to_hub`.
        repo_id: As in `push_to_hub`.
        private: As in `push_to_hub`.
        revision: As in `push_to_hub`.
        create_pr: As in `push_to_hub`.

    Raises:
        LortHubError: The errors of `push_to_hub`.

    Example:
        >>> push(Path("out"), "me/name")  # doctest: +SKIP
        Published(url='https://huggingface.co/me/name', commit='8d3f...')
    """
    from lort_hub.hub.upload import push_to_hub

    try:
        return push_to_hub(folder, repo_id, private=private, revision=revision, create_pr=create_pr)
    except (CheckpointError, ConfigError):  # to push it again would not help
        raise
    except LortHubError as error:
        flags = [*["--private"] * private, *(["--revision", revision] if revision else [])]
        command = command_for("push", str(folder), "--to", repo_id, *flags, *["--create-pr"] * create_pr)
        again = f"{folder} is as it was; push it again with: {command}"
        raise type(error)(f"{error}\n{again}") from error.__cause__


def push_page(model: str, space_id: str, *, private: bool = False) -> Published:
    """Push the page of a model that has just been pushed; an error ends with the command that repeats it.

    Args:
        model: As in `push_space`.
        space_id: As in `push_space`.
        private: As in `push_space`.

    Raises:
        LortHubError: The errors of `push_space`.

    Example:
        >>> push_page("me/photos", "me/photos-demo")  # doctest: +SKIP
        Published(url='https://huggingface.co/spaces/me/photos-demo', commit='8d3f...')
    """
    from lort_hub.classifiers.space import push_space

    try:
        return push_space(model, space_id, private=private)
    except LortHubError as error:
        command = command_for("push", model, "--space", space_id, *["--private"] * private)
        raise type(error)(f"{error}\nPush the page again with: {command}") from error.__cause__


def push_output(args: ModelArguments) -> dict[str, Any]:
    """Push what a recipe has written if it was asked to, and return the result of the recipe.

    Args:
        args: Arguments of the recipe.

    Returns:
        The output folder, the head's method, the scores by method, and where it was pushed to, or None; of a
        dry run the plan alone.

    Raises:
        LortHubError: The errors of `push_to_hub`.

    Example:
        >>> push_output(ModelArguments(output_dir=Path("out")))["method"]  # doctest: +SKIP
        'lort'
    """
    from lort_hub.hub.head_file import HeadConfig
    from lort_hub.hub.upload import check_push

    folder, repo_id = args.output_dir, args.push_to_hub
    if args.dry_run:
        if repo_id:
            check_push(repo_id, private=args.private, license=args.license)
        plan = f"{folder} is finished" + f"; it would go to {repo_id}" * bool(repo_id)
        print(plan)  # noqa: T201
        return {"plan": plan}
    head = HeadConfig.read(folder / "head" / "config.json")
    results = {name: scores.to_json() for name, scores in head.results.items()}
    result = {"output_dir": str(folder), "method": head.head.method, "results": results, "pushed": None}
    if not repo_id:
        return result
    from lort_hub.hub.validate import load_snippets

    published = push(folder, repo_id, private=args.private)
    license = RunRecord.read(folder / "run.json").backbone.license
    note = "" if license else "\nIts license is not known: --license NAME puts one on its card."
    print(f"Pushed it to {published.url}{note}\n\n{load_snippets(folder, repo_id)}")  # noqa: T201
    return result | {"pushed": asdict(published)}
