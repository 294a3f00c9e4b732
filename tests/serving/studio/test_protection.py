"""What other web pages, and a studio that is read-only, cannot do; and what the page is made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from serving.studio.client import ADDRESS, Client, client_of
from serving.studio.conftest import RUN

from keeptune.config.ability_names import ABILITY_NAMES
from keeptune.errors import RecipeError, RunError
from keeptune.serving.studio.app import STATIC
from keeptune.serving.studio.queries import Order, Outcome
from keeptune.serving.studio.server import StudioSettings, open_studio

POSTS = ["/api/model", "/api/prompt", "/api/start", "/api/resume", "/api/stop", "/v1/chat/completions"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("headers", [{}, {"X-Keeptune-Token": "wrong"}, {"X-Keeptune-Token": "wröng"}])
def test_requests_without_the_token_are_refused(studio: Client, path: str, headers: dict[str, str]) -> None:
    response = studio.http.post(path, json={}, headers={name: value.encode() for name, value in headers.items()})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "invalid_token"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:9"},
    ],
)
def test_requests_of_other_pages_are_refused_even_with_the_token(studio: Client, headers: dict[str, str]) -> None:
    response = studio.http.post("/api/resume", json={"run": RUN}, headers={**studio.headers, **headers})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "foreign_origin"


def test_requests_of_the_page_itself_pass(studio: Client) -> None:
    own = {**studio.headers, "Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"}
    assert studio.http.post("/api/stop", json={"run": RUN}, headers=own).status_code == 409


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_foreign_host_names_are_refused(studio: Client, host: str) -> None:
    assert studio.http.get("/api/runs", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/main.js", "/studio.css", "/api/runs", "/api/unknown", "/none.js"])
def test_every_response_has_the_strict_policy(studio: Client, path: str) -> None:
    headers = studio.http.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_the_report_runs_no_script(studio: Client) -> None:
    response = studio.http.get("/api/report", params={"run": RUN})
    policy = response.headers["content-security-policy"]
    assert response.headers["content-type"].startswith("text/html")
    assert "sandbox" in policy.split("; ")
    assert "script-src" not in policy


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/static/../../app.py", "//etc/passwd"]
)
def test_only_the_files_of_the_page_are_served(studio: Client, path: str) -> None:
    assert studio.http.get(path).status_code == 404


def test_a_read_only_studio_starts_and_stops_nothing(written: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {files: [rows.jsonl]}", encoding="utf-8")
    with client_of(written, is_read_only=True, recipes=(recipe,)) as client:
        assert client.get("/api/state")["read_only"]
        for path, body in (
            ("/api/start", {"recipe": "recipe.yaml", "name": "new"}),
            ("/api/resume", {"run": RUN}),
            ("/api/stop", {"run": RUN}),
        ):
            assert "--read-only" in client.post_refused(path, body, 403)


def test_wrong_targets_and_recipes_are_named(written: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        open_studio(tmp_path / "none", StudioSettings())
    with pytest.raises(RecipeError, match=r"none\.yaml"):
        open_studio(written, StudioSettings(recipes=(tmp_path / "none.yaml",)))


def test_files_of_the_page_are_short_and_need_nothing_from_outside() -> None:
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        addresses = set(re.findall(r"https?://[^\s\"'`]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\bstyle=", text), path
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert "<style" not in page
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


def messages(language: str) -> dict[str, str]:
    text = (STATIC / f"messages_{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'"([\w.\- ]+)": "((?:[^"\\]|\\.)*)"', text))


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    english, chinese = messages("en"), messages("zh")
    assert len(english) > 100
    assert set(english) == set(chinese)
    values = re.compile(r"\{\w+\}")
    assert {key: sorted(values.findall(text)) for key, text in english.items()} == {
        key: sorted(values.findall(text)) for key, text in chinese.items()
    }


def test_every_name_that_the_server_sends_has_a_text() -> None:
    texts = messages("en")
    names = {
        "source": [*ABILITY_NAMES, "skill"],
        "outcome": Outcome.__args__,  # type: ignore[attr-defined]
        "order": Order.__args__,  # type: ignore[attr-defined]
        "stage": ["data", "train", "select", "evaluate", "score", "report", "finished"],
        "status": ["retained", "lost", "undecided", "nothing to lose", "practised"],
        "verdict": ["pass", "fail", "undecided"],
        "model": ["none", "loading", "ready", "failed"],
        "reason": ["stop", "length"],
    }
    assert [f"{kind}.{name}" for kind, group in names.items() for name in group if f"{kind}.{name}" not in texts] == []


def test_every_text_that_the_page_asks_for_exists() -> None:
    texts = messages("en")
    code = "".join(path.read_text(encoding="utf-8") for path in STATIC.glob("*.js") if "messages" not in path.name)
    assert set(re.findall(r'\bt\(\s*"([^"]+)"', code)) - set(texts) == set()
