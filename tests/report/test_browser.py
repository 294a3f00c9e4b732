"""A real browser shows the page without console messages and without horizontal scrolling."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# A browser window cannot be as narrow as a phone, but a frame inside it can.
FRAME = """<!doctype html><iframe src="page.html" width="{width}" height="2000" style="border: 0"></iframe>
<script>onmessage = event => document.title = event.data</script>"""
MEASURE = """<script>
const wide = [...document.querySelectorAll("body *")].filter(
  element => !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 0.5);
const facts = [innerWidth, document.documentElement.scrollWidth, wide.map(element => element.outerHTML.slice(0, 80))];
parent.postMessage(JSON.stringify(facts), "*");
</script></body>"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]


def browse(markup: str, width: int, folder: Path) -> tuple[str, str]:
    """The width, the scroll width and the overflowing elements as JSON, and the browser's log."""
    (folder / "page.html").write_text(markup.replace("</body>", MEASURE), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1600,2000",
            "--virtual-time-budget=3000",
            "--enable-logging=stderr",
            "--dump-dom",
            (folder / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    return unescape(title[1]), done.stderr


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["finished", "judged"])
def test_page_fits_the_window_without_console_messages(
    name: str, tmp_path: Path, width: int, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(name)
    measured, log = browse((run / "report.html").read_text(encoding="utf-8"), width, tmp_path)
    assert measured == f"[{width},{width},[]]"
    assert "CONSOLE" not in log


def test_check_detects_a_page_that_does_not_fit(finished: Path, tmp_path: Path) -> None:
    markup = (finished / "report.html").read_text(encoding="utf-8")
    broken = markup.replace("overflow-wrap: anywhere", "white-space: pre").replace("</main>", "<script>boom()</script>")
    measured, log = browse(broken, 390, tmp_path)
    assert re.match(r"\[390,(?!390)", measured)
    assert "CONSOLE" in log
