"""Import a package's public names on first use, so that `import lort_hub` stays fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Build the `__getattr__`, `__dir__` and `__all__` of a package (PEP 562).

    Args:
        package: The package's `__name__`.
        modules: The module below the package that defines each name.

    Example:
        >>> get, _, names = lazy_names("lort_hub.evaluation", {"evaluate": "metrics"})
        >>> get("evaluate").__module__, names
        ('lort_hub.evaluation.metrics', ['evaluate'])
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def names() -> list[str]:
        return sorted([*vars(import_module(package)), *modules])

    return get, names, [*modules]
