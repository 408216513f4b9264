"""Write the result of a command as one JSON object on stdout, for other programs to parse."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

JSON_FLAG = "--json"
"""Flag of the recipes whose `main` returns a result."""


def print_result(main: Callable[[], dict[str, Any] | None]) -> None:
    """Run a recipe; where the command line has `--json`, print on stdout what it returns and nothing else.

    What the recipe prints goes to stderr then. Of several processes only the first prints the result.

    Args:
        main: The recipe; it returns a JSON-ready dictionary, or None where it has no result.

    Example:
        >>> print_result(lambda: {"accuracy": 0.5})  # the command line of this process has no --json
    """
    if JSON_FLAG not in sys.argv[1:]:
        main()
        return
    with redirect_stdout(sys.stderr):
        result = main()
    if result is not None and os.environ.get("RANK", "0") == "0":
        print(json.dumps(result, allow_nan=False))  # noqa: T201
