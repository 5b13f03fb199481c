"""Reads an HTML page as a browser without JavaScript would, far enough to hold it to account."""

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "hr"}
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}


class Page(HTMLParser):
    """Tags, ids, links and text of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self._texts: list[str] = []
        self._inside = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.raw:
            self.raw[self._inside].append(data)
        else:
            self._texts.append(data)

    @property
    def text(self) -> str:
        """What a reader sees, blanks folded."""
        return " ".join(" ".join(self._texts).split())

    def values(self, name: str) -> list[str]:
        """All values of one attribute, in order."""
        return [attributes[name] for _, attributes in self.attributes if name in attributes]

    def loads(self) -> list[str]:
        """What a browser would fetch to show the page."""
        fetched = [url for _, found in self.attributes for name, url in found.items() if name in LOADS]
        linked = [found["href"] for tag, found in self.attributes if tag in ("link", "image", "use", "base")]
        return [url for url in (*fetched, *linked) if not url.startswith("data:")]
