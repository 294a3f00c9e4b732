"""What no parser can tell: that a real browser shows the page without complaint and without a sideways scroll."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

from keeptune.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURE = """<script>
const wide = [...document.querySelectorAll("body *")].filter(
  element => !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 0.5);
document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth, wide.map(e => e.outerHTML)]);
</script>"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]


def browse(page: Path, width: int, profile: Path) -> tuple[str, str]:
    """The page's source after it was shown, and what the browser logged."""
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={profile}", f"--window-size={width},2000", "--enable-logging=stderr", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("width", [390, 1440])
def test_fits_the_window_and_says_nothing_on_the_console(run: Path, tmp_path: Path, width: int) -> None:
    page = write_report(run)
    measured = tmp_path / "measured.html"
    measured.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    source, log = browse(measured, width, tmp_path / "profile")
    title = re.search(r"<title>(.*?)</title>", source, re.DOTALL)
    assert title is not None
    assert unescape(title[1]) == f"[{width},{width},[]]"
    assert "CONSOLE" not in log


def test_would_notice_a_page_that_does_not_fit(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    page = write_report(make_run())
    broken = page.read_text(encoding="utf-8").replace("overflow-wrap: anywhere", "white-space: pre")
    page.write_text(broken.replace("</body>", f"{MEASURE}<script>boom()</script></body>"), encoding="utf-8")
    source, log = browse(page, 390, tmp_path / "profile")
    assert "<title>[390,390,[]]" not in source
    assert "CONSOLE" in log
