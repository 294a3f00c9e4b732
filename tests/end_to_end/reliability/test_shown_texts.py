"""Texts of rows, models and settings that reach a person, and secrets that must reach no file."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from end_to_end.command import files, keeptune, ok
from end_to_end.conftest import MakeRecipe
from remote_models.server import completion, serve

pytestmark = pytest.mark.slow

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202e<script>alert(1)</script>[red]&amp;<img src=x onerror=alert(1)>\x9b31m"
KIND = f"kind {HOSTILE}"
SECRETS = {
    "OPENAI_API_KEY": "sk-0123456789abcdef",
    "HF_TOKEN": "hf_0123456789abcdef",
    "WANDB_API_KEY": "wandb0123456789abcdef",
    "KEEPTUNE_API_KEY": "serve0123456789abcdef",
    "AWS_SECRET_ACCESS_KEY": "aws0123456789abcdef",
}


class Page(HTMLParser):
    """Collects the elements of a page, and attributes that run code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts, self.handlers = 0, []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


@pytest.fixture
def hostile_run(make_recipe: MakeRecipe, tmp_path: Path) -> tuple[Path, Path]:
    """A recipe and its finished run, in which rows, kinds, the name and the source have hostile texts."""
    rows = [{"q": f"{HOSTILE} How much is {n} + 1?", "a": f"{HOSTILE}\n#### {n + 1}", "k": KIND} for n in range(60)]
    rows.append({"q": HOSTILE, "a": "", "k": KIND})
    source = tmp_path / "[red] <b>rows\x1b[2J.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {
        "skill": "text",
        "files": [str(source)],
        "columns": {"problem": "q", "solution": "a", "kind": "k"},
        "kinds": [KIND],
        "quota": {},
        "styles": {"default": "raw"},
        "special_tokens": "strip",
        "reject_limit": 0.5,
    }
    recipe = make_recipe(name="[red] <b>name", data=data, train={"epochs": 1, "score_every_steps": 0})
    return recipe, tmp_path / "run"


def test_hostile_texts_are_shown_harmlessly(hostile_run: tuple[Path, Path], finished: Path, tmp_path: Path) -> None:
    recipe, run = hostile_run
    said = [keeptune("run", recipe, "--run", run), keeptune("plan", recipe), keeptune("ask", run, HOSTILE)]
    said += [keeptune("verify", run), keeptune("compare", run, run, "--out", tmp_path / "compare.html")]
    said += [keeptune("report", run), keeptune("run", recipe, "--run", tmp_path / HOSTILE.replace("/", ""))]
    assert [one.code for one in said[:2]] == [said[0].code, 0], said[0].err
    assert said[0].code in (0, 4), said[0].err
    for one in said:
        assert not CONTROL.search(one.out + one.err), one
    for page in (run / "report.html", tmp_path / "compare.html"):
        text = page.read_text(encoding="utf-8")
        assert not CONTROL.search(text)
        shown, plain = Page(text), Page((finished / "report.html").read_text(encoding="utf-8"))
        assert shown.scripts <= plain.scripts and not shown.handlers
    assert not CONTROL.search((run / "report.md").read_text(encoding="utf-8"))


def test_no_file_holds_a_secret(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    key = SECRETS["OPENAI_API_KEY"]
    with serve(lambda *_: completion(f"no idea, {key}")) as (url, server):
        teacher = {"url": url, "model": "m", "task": "paraphrase", "samples": 1, "failure_limit": 1}
        recipe = make_recipe(data={"teacher": teacher}, train={"epochs": 1, "score_every_steps": 0})
        said = ok("data", recipe, "--run", tmp_path / "run")
        assert server.received and server.received[0].headers["Authorization"] == f"Bearer {key}"
    finished = keeptune("run", recipe, "--run", tmp_path / "run")
    assert finished.code in (0, 4), finished.err
    answers = {name for name, content in files(tmp_path / "run").items() if key.encode() in content}
    assert answers <= {"data/writer.jsonl"}, "only what the server itself wrote"
    for folder in (tmp_path / "run", own_cache):
        for name, content in files(folder).items():
            for variable, value in SECRETS.items():
                assert value.encode() not in content or name in answers, f"{name} holds {variable}"
    for value in SECRETS.values():
        assert value not in said.out + said.err + finished.out + finished.err
    assert os.environ["HF_TOKEN"]
