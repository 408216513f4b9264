"""Escape names that users gave in Markdown: they are text there, never markup."""

from __future__ import annotations

import re

# An underscore between two letters is no markup; `://` and `www.` would be links on GitHub and the Hub.
MARKUP = re.compile(
    r"[|<>&*`~\[\]#$\\@\n\r\ud800-\udfff]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE
)


def escape(text: str) -> str:
    """Escape a name for Markdown, HTML and tables.

    Example:
        >>> escape("a|b <i>"), escape("aquarium_fish _x_")
        ('a&#124;b &#60;i&#62;', 'aquarium_fish &#95;x&#95;')
    """
    return MARKUP.sub(lambda match: f"&#{_codepoint(match.group())};", text)


def _codepoint(character: str) -> int:
    number = ord(character)
    return (
        0xFFFD if 0xD800 <= number <= 0xDFFF else number
    )  # half a character, of a file name that is no UTF-8


def code(text: str) -> str:
    """Render a code span, in HTML where a character of the name could end Markdown's own.

    Example:
        >>> code("resnet50"), code("a`b")
        ('`resnet50`', '<code>a&#96;b</code>')
    """
    return f"<code>{escape(text)}</code>" if re.search(r"[`|<>\n\r\ud800-\udfff]", text) else f"`{text}`"


def fenced(text: str) -> str:
    """Render a code block that nothing in the text can end.

    Example:
        >>> print(fenced("ls ```"))
        ````
        ls ```
        ````
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
