"""The page in a real browser: clicks, streams, keyboard, sizes, languages, contrast, and texts with markup."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report.conftest import HOSTILE
from serving.studio.conftest import OTHER, RUN
from serving.studio.page_checks import LOW_CONTRAST, OVERFLOWING, UNNAMED_CONTROLS

pytest.importorskip("playwright", reason="pip install 'keeptune[studio-test]'")
pytest.importorskip("prometheus_client", reason="pip install 'keeptune[serve]'")

import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from keeptune.serving.studio.app import Studio, create_studio
from keeptune.serving.studio.server import StudioSettings, open_studio

if TYPE_CHECKING:
    from serving.expected import Expected

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")]

PATIENCE_MILLISECONDS = 60_000
TOKENS = 40
VIEWS = ["/", f"/overview?run={RUN}", f"/playground?run={RUN}", f"/answers?run={RUN}", f"/report?run={RUN}", "/compare"]

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@dataclass
class Site:
    """A running studio."""

    studio: Studio
    address: str

    def url(self, view: str) -> str:
        return f"{self.address}/#{view}"


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Site]:
    """A studio in a thread."""
    studio = open_studio(folder, StudioSettings(**settings))
    config = uvicorn.Config(create_studio(studio), log_level="critical", ws="none", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield Site(studio, f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def site(playable: Path) -> Iterator[Site]:
    with serving(playable) as site:
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, and what its console has said."""

    page: Page
    site: Site
    messages: list[str] = field(default_factory=list)

    def open(self, view: str) -> Page:
        """Opens a view and waits until its requests are answered."""
        self.page.goto("about:blank")  # so that an address that differs behind # only is loaded as well
        self.page.goto(self.site.url(view))
        self.page.wait_for_load_state("networkidle")
        return self.page


@contextmanager
def visiting(browser: Browser, site: Site, **options: Any) -> Iterator[Visit]:
    """A visit with the token, which fails if the console has an error or a warning."""
    context: BrowserContext = browser.new_context(
        **{"viewport": {"width": 1440, "height": 900}, "locale": "en", **options}
    )
    page = context.new_page()
    visit = Visit(page, site)
    page.set_default_timeout(PATIENCE_MILLISECONDS)
    page.on("console", lambda message: visit.messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.messages.append(str(error)))
    page.on("dialog", lambda dialog: visit.messages.append(f"dialog: {dialog.message}"))
    page.goto(f"{site.address}/#token={site.studio.token}")
    try:
        yield visit
        assert visit.messages == []
    finally:
        context.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    with visiting(browser, site) as visit:
        yield visit


def ask(page: Page, question: str, tokens: int = TOKENS) -> None:
    page.get_by_label("Question").fill(question)
    page.get_by_label("Max tokens").fill(str(tokens))
    page.get_by_role("button", name="Ask both").click()


def test_the_token_leaves_the_address(visit: Visit) -> None:
    assert "token" not in visit.page.url
    assert visit.page.evaluate("sessionStorage.getItem('keeptune-token')") == visit.site.studio.token


def test_a_click_opens_a_run_and_its_tabs(visit: Visit) -> None:
    page = visit.open("/")
    page.get_by_role("link", name=RUN, exact=True).click()
    expect(page.get_by_role("heading", name=RUN, level=1)).to_be_visible()
    expect(page.get_by_role("img", name="Training loss by kind")).to_be_visible()
    page.get_by_role("link", name="Answers").click()
    expect(page.locator(".pair")).to_have_count(20)
    page.get_by_role("link", name="Report").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", level=1)).to_be_visible()


def test_both_answers_stream_and_differing_tokens_are_marked(visit: Visit, expected: Expected) -> None:
    from serving.expected import PROBLEM

    page = visit.open(f"/playground?run={RUN}")
    ask(page, PROBLEM)
    expect(page.locator('.panel[data-state="done"]')).to_have_count(2)
    texts = page.locator(".panel .answer").evaluate_all("nodes => nodes.map(node => node.textContent)")
    assert texts == [expected.answer(PROBLEM, TOKENS, model).text for model in ("base", "tuned")]
    assert page.locator(".panel .answer .differs").count() > 0
    same = page.locator(".panel .answer").evaluate_all(
        """nodes => nodes.map(node => [...node.children].filter(span => !span.matches('.differs'))
          .map(span => span.textContent).join(''))"""
    )
    assert same[0] == same[1]


def test_the_prompt_and_the_alternatives_can_be_opened(visit: Visit) -> None:
    import tiny

    page = visit.open(f"/playground?run={RUN}")
    ask(page, "计算 12.5 + 3", 5)
    expect(page.locator('.panel[data-state="done"]')).to_have_count(2)
    page.get_by_text(re.compile("Prompt as the model sees it")).click()
    prompt = page.get_by_label("Prompt as the model sees it").text_content()
    assert tiny.PROMPT.render("计算 12.5 + 3") in str(prompt)
    panel = page.locator(".panel").first
    panel.get_by_text("Tokens and alternatives").click()
    rows = panel.locator("tbody tr")
    expect(rows.first.locator("td").first).to_contain_text("%")
    likely = [float(text.split('"')[-1].split("%")[0]) for text in rows.locator("td:nth-child(3)").all_text_contents()]
    assert all(0 < share <= 100 for share in likely)


def test_a_running_answer_is_stopped(browser: Browser, endless_folder: Path, playable: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(playable, tmp_path / "runs"))
    for name in ("adapter_config.json", "adapter_model.safetensors", "keeptune.json"):
        shutil.copy(endless_folder / name, folder / RUN / "adapter" / name)
    with serving(folder) as site, visiting(browser, site) as visit:
        page = visit.open(f"/playground?run={RUN}")
        ask(page, "1 + 1", 1500)
        # The first tokens are shown while the others are generated.
        expect(page.locator('.panel[data-state="streaming"] .answer span').first).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator('.panel[data-state="failed"]')).to_have_count(2)
        expect(page.get_by_role("button", name="Ask both")).to_be_enabled()
        ask(page, "1 + 1", 3)
        expect(page.locator('.panel[data-state="done"]')).to_have_count(2)


def test_errors_of_the_server_are_shown(visit: Visit) -> None:
    page = visit.open(f"/playground?run={OTHER}")
    ask(page, "1 + 1")
    expect(page.get_by_role("alert")).to_contain_text("no adapter")
    visit.messages.clear()  # the browser logs each response with an error status


def test_filters_search_and_pages(visit: Visit) -> None:
    page = visit.open(f"/answers?run={RUN}")
    page.get_by_label("Questions", exact=True).select_option("skill")
    page.get_by_label("Show", exact=True).select_option("lost")
    expect(page.locator(".pair")).to_have_count(1)
    expect(page.locator(".pair .chip.bad").first).to_have_text("lost")
    assert "outcome=lost" in page.url
    page.get_by_label("Show", exact=True).select_option("all")
    page.get_by_label("Questions", exact=True).select_option("")
    page.get_by_label("Search questions and answers").fill("opened mill")
    expect(page.get_by_role("status").first).to_contain_text("of 1")
    expect(page.locator(".pager")).to_be_hidden()
    page.get_by_label("Search questions and answers").fill("")
    expect(page.locator(".pair")).to_have_count(20)
    first = page.locator(".pair code").first.text_content()
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".pager")).to_contain_text("Page 2")
    assert page.locator(".pair code").first.text_content() != first
    page.reload()
    expect(page.locator(".pager")).to_contain_text("Page 2")


def test_markup_of_rows_and_answers_stays_text(visit: Visit) -> None:
    page = visit.open("/")
    expect(page.locator(".runs")).to_contain_text(f"runs {HOSTILE.splitlines()[0]}")
    for view in (f"/overview?run={RUN}", f"/answers?run={RUN}&source=skill&text=script", "/compare"):
        page = visit.open(view)
        assert page.locator("main img, main script").count() == 0
    page = visit.open(f"/answers?run={RUN}&source=skill&text=onerror")
    assert HOSTILE in page.locator(".side .answer").all_text_contents()


def test_the_policy_forbids_markup_from_text(browser: Browser, site: Site) -> None:
    with visiting(browser, site) as visit:
        page = visit.open("/")
        refused = """() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } }"""
        assert page.evaluate(refused) == "TypeError"
        visit.messages.clear()


def test_two_runs_are_compared(visit: Visit) -> None:
    page = visit.open("/compare")
    expect(page.locator(".pair")).to_have_count(20)
    expect(page.locator(".pair .side strong").nth(1)).to_have_text(OTHER)
    page.get_by_label("Show", exact=True).select_option("differs")
    expect(page.locator(".pair")).to_have_count(0)  # both runs have the same answers


def test_a_live_run_is_followed(browser: Browser, written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "runs"))
    (folder / RUN / "result.json").unlink()
    log = folder / RUN / "log.jsonl"
    with serving(folder) as site, visiting(browser, site) as visit:
        page = visit.open(f"/overview?run={RUN}")
        expect(page.locator("progress")).to_be_visible()
        event = {
            "event": "train",
            "step": 4321,
            "loss": 0.25,
            "loss_by_kind": {"add": 0.25},
            "tokens": 95_000,
            "seconds": 120.0,
        }
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        expect(page.locator(".facts").nth(1)).to_contain_text("4,321")
        expect(page.locator(".log").last).to_contain_text("4321")


def test_a_run_that_just_began_shows_what_there_is(browser: Browser, written: Path, tmp_path: Path) -> None:
    """A kind with one loss had no mark in the chart, and filters and pages of no answers read `0 items, 0–0 shown`."""
    folder = Path(shutil.copytree(written, tmp_path / "runs"))
    (folder / RUN / "result.json").unlink()
    shutil.rmtree(folder / RUN / "scores")
    losses = [{"add": 1.5, "reading": 2.0}, {"add": 1.0}]
    events = [
        {"event": "train", "step": step, "loss": 1.0, "loss_by_kind": by_kind, "tokens": 900 * step, "seconds": step}
        for step, by_kind in enumerate(losses, start=1)
    ]
    (folder / RUN / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    with serving(folder) as site, visiting(browser, site) as visit:
        page = visit.open(f"/overview?run={RUN}")
        expect(page.locator(".chart polyline")).to_have_count(1)
        expect(page.locator(".chart circle")).to_have_count(1)
        page = visit.open(f"/answers?run={RUN}")
        expect(page.get_by_text("no answers of both models")).to_be_visible()
        expect(page.get_by_role("search")).to_have_count(0)
        expect(page.locator(".pager")).to_have_count(0)


def test_a_failed_start_shows_its_output(browser: Browser, written: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "broken.yaml"
    recipe.write_text("data: {skil: text}\n", encoding="utf-8")
    with serving(written, recipes=(recipe,)) as site, visiting(browser, site) as visit:
        page = visit.open("/")
        page.get_by_label("Name of the run").fill("new")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text("exit code 2")
        expect(page.locator(".log")).to_contain_text("data.skil")


def test_a_read_only_page_has_no_controls(browser: Browser, written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "runs"))
    (folder / RUN / "result.json").unlink()
    for is_read_only, count in ((False, 1), (True, 0)):
        with serving(folder, is_read_only=is_read_only) as site, visiting(browser, site) as visit:
            page = visit.open(f"/overview?run={RUN}")
            expect(page.locator(".facts").first).to_be_visible()
            expect(page.get_by_role("button", name="Resume")).to_have_count(count)


def test_everything_is_reached_by_keyboard(visit: Visit) -> None:
    page = visit.open("/")
    press = page.keyboard.press
    press("Shift+Tab")
    for _ in range(20):
        press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "skip":
            break
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    press("Tab")
    assert page.evaluate("document.activeElement.textContent") == RUN
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press("Enter")
    expect(page.get_by_role("heading", name=RUN, level=1)).to_be_focused()
    press("Tab")
    press("Tab")
    press("Enter")
    page.get_by_label("Question").focus()
    page.keyboard.type("1 + 1")
    page.get_by_label("Max tokens").fill("3")
    page.get_by_label("Question").press("Control+Enter")
    expect(page.locator('.panel[data-state="done"]')).to_have_count(2)


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_views_fit_and_are_legible(browser: Browser, site: Site, width: int, scheme: Any, locale: str) -> None:
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "locale": locale}
    with visiting(browser, site, **options) as visit:
        for view in VIEWS:
            page = visit.open(view)
            expect(page.locator("main .view > *").first).to_be_attached()
            assert page.evaluate("document.documentElement.lang") == ("zh-Hans" if locale == "zh-CN" else "en")
            assert page.evaluate(OVERFLOWING) == [], view
            assert page.evaluate(LOW_CONTRAST) == [], view
            assert page.evaluate(UNNAMED_CONTROLS) == [], view


def test_tokens_are_legible(browser: Browser, site: Site) -> None:
    for scheme in ("light", "dark"):
        with visiting(browser, site, color_scheme=scheme) as visit:
            page = visit.open(f"/playground?run={RUN}")
            ask(page, "1 + 1", 30)
            expect(page.locator('.panel[data-state="done"]')).to_have_count(2)
            assert page.evaluate(LOW_CONTRAST) == []


def test_checks_of_pages_find_what_is_wrong(browser: Browser, site: Site) -> None:
    with visiting(browser, site, viewport={"width": 390, "height": 900}) as visit:
        page = visit.open("/")
        page.evaluate(
            """() => { const text = document.createElement('p'); text.textContent = 'pale'; text.style.color = '#999';
              text.style.width = '500px'; const button = document.createElement('button');
              document.querySelector('main').append(text, button); }"""
        )
        assert [entry["text"] for entry in page.evaluate(LOW_CONTRAST)] == ["pale"]
        assert page.evaluate(OVERFLOWING) != []
        assert page.evaluate(UNNAMED_CONTROLS) == ["<button></button>"]


def test_the_language_is_switched_and_remembered(visit: Visit) -> None:
    page = visit.open("/")
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", name="运行列表")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="运行列表")).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()


def test_ten_thousand_answers_stay_quick(browser: Browser, written: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written, tmp_path / "runs"))
    for variant in ("base", "tuned"):
        path = folder / RUN / "scores" / f"skill-{variant}.jsonl"
        record = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
        many = ({**record, "id": str(number), "output": f"answer {number} " * 40} for number in range(10_000))
        path.write_text("".join(json.dumps(line) + "\n" for line in many), encoding="utf-8")
    with serving(folder) as site, visiting(browser, site) as visit:
        page = visit.open(f"/answers?run={RUN}&source=skill")
        expect(page.locator(".pair")).to_have_count(20)
        seconds = measured(lambda: page.get_by_label("Search questions and answers").fill("9998"), page)
        assert seconds < 5  # on a loaded machine; it takes a fraction of a second


def measured(act: Callable[[], None], page: Page) -> float:
    started = time.monotonic()
    act()
    expect(page.locator(".pair")).to_have_count(1)
    return time.monotonic() - started
