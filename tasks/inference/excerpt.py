"""The text that a server answered, as messages quote it: one short line, also of a page in HTML."""

from __future__ import annotations

from html.parser import HTMLParser

_LONGEST = 200  # characters
_READ = 1 << 16  # bytes of a text that are looked at
_UNSEEN = frozenset({"script", "style", "template"})
_INLINE = frozenset({"a", "b", "code", "em", "font", "i", "small", "span", "strong", "tt", "u"})


def excerpt(text: bytes | str) -> str:
    """The beginning of a text in one line; of HTML or XML, the first line that a reader sees.

    Args:
        text: What a server answered; bytes are taken for UTF-8.
    """
    if isinstance(text, bytes):
        text = text[:_READ].decode(errors="replace")
    text = text[:_READ].lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        page = _Page()
        page.feed(text)
        page.close()
        text = page.first_line
    printable = "".join(each if each.isprintable() else " " for each in text[: 4 * _LONGEST])
    return " ".join(printable.split())[:_LONGEST].rstrip()


class _Page(HTMLParser):
    """The lines of text in a page."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = [""]
        self._unseen = 0

    @property
    def first_line(self) -> str:
        """The first line that is not empty."""
        return next((line for line in self._lines if line.strip()), "")

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - its name there
        """Begin a line, unless the text goes on."""
        self._unseen += tag in _UNSEEN
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        """End a line, unless the text goes on."""
        self._unseen -= tag in _UNSEEN and self._unseen > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        """Add text, whose own line breaks count as spaces."""
        if not self._unseen:
            self._lines[-1] += data

    def _break(self, tag: str) -> None:
        if tag not in _INLINE:
            self._lines.append("")
