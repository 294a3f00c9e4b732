"""Parses an HTML page for tests: elements, attributes, texts and tables."""

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: its elements with their attributes and texts."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(markup)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for index in self.open:
            self.elements[index][2].append(data)

    def texts(self, tag: str, name: str = "") -> list[str]:
        return [
            "".join(text)
            for element_tag, attributes, text in self.elements
            if element_tag == tag and (not name or name in attributes.get("class", "").split())
        ]

    def tables(self) -> list[list[list[str]]]:
        """The cells of every table, row by row."""
        tables: list[list[list[str]]] = []
        for tag, _, text in self.elements:
            if tag == "table":
                tables.append([])
            elif tag == "tr":
                tables[-1].append([])
            elif tag in ("td", "th"):
                tables[-1][-1].append(" ".join(" ".join(text).split()))
        return tables


def words_of(page: Page) -> str:
    (body,) = [text for tag, _, text in page.elements if tag == "body"]
    return " ".join(" ".join(body).split())
