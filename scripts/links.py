"""links.py SITE: fails, and says which, where a page of a site links to a page, file or heading of it that is not there."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attributes if value}
        self.links += [values[name] for name in ("href", "src") if name in values]
        self.anchors |= {values[name] for name in ("id", "name") if name in values}


def broken(pages: dict[Path, Page], path: Path, link: str) -> bool:
    """Whether a link leads nowhere; those to other hosts are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return True
    return bool(parts.fragment) and target in pages and unquote(parts.fragment) not in pages[target].anchors


def main() -> None:
    site = Path(sys.argv[1]).resolve()
    # 404.html is shown at whatever address is asked for.
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    found = [(path, link) for path, page in pages.items() for link in page.links if broken(pages, path, link)]
    for path, link in found:
        print(f"{path.relative_to(site)}: {link} leads nowhere", file=sys.stderr)
    if found or not pages:
        sys.exit(f"{len(found)} links of {len(pages)} pages lead nowhere")
    print(f"the links of {len(pages)} pages lead somewhere")


main()
