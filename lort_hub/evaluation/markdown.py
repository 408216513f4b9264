"""Names that users gave, as text in Markdown: data, never markup."""

from __future__ import annotations

import re

# An underscore between two letters is no markup; `://` and `www.` would be links on GitHub and the Hub.
MARKUP = re.compile(
    r"[|<>&*`~\[\]#$\\@\n\r\ud800-\udfff]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE
)


def escape(text: str) -> str:
    """Make a user's name safe in Markdown, HTML and tables: it is data, never markup.

    Example:
        >>> escape("a|b <i>"), escape("aquarium_fish _x_")
        ('a&#124;b &#60;i&#62;', 'aquarium_fish &#95;x&#95;')
    """
    return MARKUP.sub(lambda found: f"&#{_codepoint(found.group())};", text)


def _codepoint(character: str) -> int:
    number = ord(character)
    return (
        0xFFFD if 0xD800 <= number <= 0xDFFF else number
    )  # half a character, of a file name that is no UTF-8


def code(text: str) -> str:
    """A code span; in Markdown's own, a backtick or a line end in the name could end it.

    Example:
        >>> code("resnet50"), code("a`b")
        ('`resnet50`', '<code>a&#96;b</code>')
    """
    return f"<code>{escape(text)}</code>" if re.search(r"[`|<>\n\r\ud800-\udfff]", text) else f"`{text}`"


def fenced(text: str, language: str = "") -> str:
    """A block of code that nothing in the text can end.

    Args:
        text: The code.
        language: For colours.

    Example:
        >>> print(fenced("ls ```"))
        ````
        ls ```
        ````
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
