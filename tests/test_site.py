"""The documentation as a site: it is built strictly, whole, and read without any other host."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import attrs
import pytest
from playwright.sync_api import Browser, Request, sync_playwright
from playwright.sync_api import Page as Tab
from typing_extensions import override

from tests.test_architecture import PUBLIC

ROOT: Final = Path(__file__).parents[1]
Scheme: TypeAlias = Literal["light", "dark"]
SIZES: Final[tuple[tuple[int, Scheme], ...]] = ((1400, "light"), (400, "dark"))
BROWSERS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; any warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = ["mkdocs", "build", "--strict", "-f", "docs/site/mkdocs.yml", "-d", str(folder)]
    built = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stderr
    return folder


@attrs.define
class Page(HTMLParser):
    """What a page links and loads, and what it can be linked by."""

    links: list[str] = attrs.field(factory=list)
    loaded: list[str] = attrs.field(factory=list)
    anchors: set[str] = attrs.field(factory=set)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and "href" in given:
            self.loaded.append(given["href"])
        self.loaded += [
            given[name] for name in ("src", "srcset", "data", "action") if name in given
        ]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Read all pages but the one of an unknown address, which links from the root of a host."""
    read = {}
    for path in sorted(site.rglob("*.html")):
        if path.name != "404.html":
            read[path] = page = Page()
            page.feed(path.read_text("utf-8"))
    return read


def test_every_link_and_anchor_leads_somewhere(pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            known = pages[there].anchors if there in pages else set()
            if not there.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert [one for one in page.loaded if urlsplit(one).netloc] == [], path.name
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text("utf-8")
        assert "@import" not in style.read_text("utf-8")


@pytest.mark.parametrize("module", PUBLIC)
def test_the_reference_has_every_public_name(module: str, pages: dict[Path, Page]) -> None:
    [page] = [page for path, page in pages.items() if path.name == f"{module}.html"]
    names = importlib.import_module(module).__all__
    missing = [name for name in names if f"{module}.{name}" not in page.anchors]
    assert not missing


def test_the_reference_has_no_other_module(pages: dict[Path, Page]) -> None:
    found = {path.stem for path in pages if path.parent.name == "reference"}
    assert found == set(PUBLIC)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the Chromium of this machine."""
    found = [path for name in BROWSERS if (path := shutil.which(name)) is not None]
    if not found:
        pytest.skip(f"reading the documentation needs one of {', '.join(BROWSERS)}: install it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield opened
        opened.close()


class Quiet(SimpleHTTPRequestHandler):
    """Serve files, and log nothing."""

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@attrs.frozen
class Said:
    """What went wrong while pages were read."""

    errors: list[str] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)


@pytest.fixture
def said() -> Said:
    """Have nothing said yet."""
    return Said()


@pytest.fixture
def tab(browser: Browser, address: str, said: Said) -> Iterator[Tab]:
    """Open a tab that notes each complaint, and each request to another host."""
    opened = browser.new_page()
    opened.set_default_timeout(120_000)
    opened.on("console", lambda one: said.errors.append(one.text) if one.type == "error" else None)
    opened.on("pageerror", lambda error: said.errors.append(str(error)))

    def note(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            said.asked.append(request.url)

    opened.on("request", note)
    yield opened
    opened.close()


def test_pages_are_read_without_a_complaint_wide_and_narrow_light_and_dark(
    tab: Tab, address: str, pages: dict[Path, Page], site: Path, said: Said
) -> None:
    too_wide, colours = [], set()
    for name in (path.relative_to(site).as_posix() for path in pages):
        if name.startswith("source/"):
            continue  # the text of a file, which the parsed pages have shown to load nothing
        tab.goto(f"{address}/{name}")
        for width, scheme in SIZES:
            tab.emulate_media(color_scheme=scheme)
            tab.set_viewport_size({"width": width, "height": 900})
            if tab.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                too_wide.append((name, width))
            colours.add((scheme, tab.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (said.errors, said.asked, too_wide) == ([], [], [])
    assert len(colours) == len({scheme for scheme, _ in colours}) == 2


def test_the_search_finds_a_name_and_leads_to_it(tab: Tab, address: str, said: Said) -> None:
    tab.goto(f"{address}/index.html")
    tab.get_by_placeholder("Search").fill("Loop")
    results = tab.locator(".md-search-result__link")
    results.first.wait_for()
    links = [str(link.get_attribute("href")).partition("?")[0] for link in results.all()]
    assert any(link.endswith("reference/fengine.html") for link in links), links
    results.first.click()
    tab.wait_for_url(lambda url: "index.html" not in url)
    assert "Loop" in tab.locator("article").inner_text()
    assert (said.errors, said.asked) == ([], [])
