"""Names that users gave, as text in Markdown: data, never markup."""

from __future__ import annotations

import re


def escape(text: str) -> str:
    """Make a user's name safe in Markdown, HTML and tables: it is data, never markup.

    Example:
        >>> escape("a|b <i>")
        'a&#124;b &#60;i&#62;'
    """
    return re.sub(r"[|<>&*_`~\[\]#$\\\n\r]", lambda found: f"&#{ord(found.group())};", text)


def code(text: str) -> str:
    """A code span; in Markdown's own, a backtick or a line end in the name could end it.

    Example:
        >>> code("resnet50"), code("a`b")
        ('`resnet50`', '<code>a&#96;b</code>')
    """
    return f"<code>{escape(text)}</code>" if re.search(r"[`|<>\n\r]", text) else f"`{text}`"
