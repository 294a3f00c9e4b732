"""What a run ships: exports and servers judged by `keeptune gate RUN --artefact`, and what verify finds."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
from end_to_end.command import Outcome, keeptune, ok, refused
from end_to_end.conftest import Tree, run_quick_suite
from generation.completions_server import Completions, running
from safetensors.torch import load_file, save_file

from keeptune.generation.engine import Generator
from keeptune.models import adapters

ABILITIES = ["grammar", "general-text", "instructions", "reading-en"]


@pytest.fixture(scope="module")
def suite_run(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a part of the quick suite."""
    return run_quick_suite(tree, tmp_path_factory.mktemp("artefact"), ABILITIES, general=[])


@pytest.fixture(scope="module")
def merged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The merged export of the finished run."""
    folder = tmp_path_factory.mktemp("exports") / "merged"
    ok("export", finished, "--to", "merged", "--out", folder)
    return folder


@pytest.fixture
def copy(finished: Path, merged: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of run and export, to change them."""
    shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(merged, tmp_path / "merged")
    return tmp_path / "run", tmp_path / "merged"


def judged(run: Path, artefact: object, *options: object) -> Outcome:
    outcome = keeptune("gate", run, "--artefact", artefact, *options)
    assert outcome.code in (0, 4, 6), outcome.err
    return outcome


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def served(run: Path, reads: Callable[[str], str] = str) -> Iterator[str]:
    """The address of a server with the tuned model of the run."""
    model = tiny.load(Path(read(run / "adapter" / "keeptune.json")["model"]))
    tuned = adapters.load_adapter(model, run / "adapter")
    adapters.set_scale(tuned, read(run / "adapter" / "keeptune.json")["scale"])
    with running(Completions(Generator(tuned, tiny.tokenizer()), reads)) as url:
        yield url


def test_a_merged_export_answers_as_the_run(copy: tuple[Path, Path]) -> None:
    run, merged = copy
    outcome = judged(run, merged, "--json")
    record = outcome.json
    assert record == read(run / "artefacts" / "merged" / "artefact.json")
    assert outcome.code == {"pass": 0, "fail": 4, "undecided": 6}[record["verdict"]]
    assert record["program"].startswith("transformers ") and record["faults"] == []
    assert record["prompts"]["differing"] == 0 and record["prompts"]["compared"] == 9
    skill, result = record["skill"], read(run / "result.json")
    assert skill["equal"] == skill["run"]["n"] == 9
    assert skill["run"]["accuracy"] == result["skill"]["tuned"]["accuracy"] == skill["artefact"]["accuracy"]
    assert set(record["abilities"]) == {"reading-en"} and record["left_out"] == {}
    for who in ("base", "tuned"):
        assert 100 * record["abilities"]["reading-en"][who] == pytest.approx(result["retained"][who]["f1"])
    for report in ("report.html", "report.md"):
        assert "What you ship" in (run / report).read_text(encoding="utf-8")
    ok("verify", run)
    ok("verify", merged)


def test_a_tampered_export_is_named(copy: tuple[Path, Path]) -> None:
    run, merged = copy
    weights = merged / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    outcome = judged(run, merged)
    assert outcome.code == 4
    assert "model.safetensors: differs" in outcome.out and "SHA-256" in outcome.out
    assert "model.safetensors" in keeptune("verify", merged).out
    assert keeptune("verify", merged).code == 3
    ok("verify", run)  # the run stores the hash of the tampered file, and that it fails


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("adapter_sha256", "0" * 64, "another adapter"),
        ("prompt_sha256", "0" * 64, "another prompt"),
        ("base", {"weights_sha256": "0" * 64, "config_sha256": "0" * 64}, "another base"),
    ],
)
def test_an_export_of_something_else_is_named(copy: tuple[Path, Path], key: str, value: Any, named: str) -> None:
    run, merged = copy
    path = merged / "export.json"
    path.write_text(json.dumps({**read(path), key: value}), encoding="utf-8")
    outcome = judged(run, merged)
    assert outcome.code == 4 and named in outcome.out
    assert read(run / "artefacts" / "merged" / "artefact.json")["skill"] is None


@pytest.mark.slow
def test_verify_finds_what_changed_after_the_check(copy: tuple[Path, Path]) -> None:
    run, merged = copy
    judged(run, merged)
    folder = run / "artefacts" / "merged"
    original = (folder / "artefact.json").read_text(encoding="utf-8")
    record = json.loads(original)
    record["skill"]["equal"] -= 1
    (folder / "artefact.json").write_text(json.dumps(record), encoding="utf-8")
    outcome = keeptune("verify", run)
    assert outcome.code == 3 and "artefacts/merged/artefact.json, skill" in outcome.out
    (folder / "artefact.json").write_text(original, encoding="utf-8")
    answers = (folder / "skill.jsonl").read_text(encoding="utf-8").split("\n")
    first = json.loads(answers[0])
    first["verdicts"] = {name: not is_right for name, is_right in first["verdicts"].items()}
    (folder / "skill.jsonl").write_text("\n".join([json.dumps(first), *answers[1:]]), encoding="utf-8")
    (merged / "README.md").write_text("other\n", encoding="utf-8")
    found = keeptune("verify", run).out
    assert "hashes.skill.jsonl" in found and f"skill.jsonl, {first['id']}, verdicts" in found
    assert "README.md" in found
    shutil.rmtree(merged)
    assert "not here" in keeptune("verify", run).out


@pytest.mark.slow
def test_a_server_is_judged_with_all_abilities(suite_run: Path) -> None:
    run = suite_run
    with served(run) as url:
        record = judged(run, url, "--json").json
    assert record["program"] == "vLLM 0.0" and record["form"] is None
    assert record["skill"]["equal"] == 9
    assert record["prompts"]["by"] == "token ids" and record["prompts"]["differing"] == 0
    assert set(record["abilities"]) == set(ABILITIES)
    result = read(run / "result.json")["abilities"]
    for name, ability in record["abilities"].items():
        assert ability["tuned"] == pytest.approx(result[name]["tuned"], rel=1e-3)
    ok("verify", run)


def test_a_server_with_another_template_fails_before_it_answers(copy: tuple[Path, Path]) -> None:
    run, _ = copy
    with served(run, lambda text: f"<|user|>{text}") as url:
        outcome = judged(run, url)
    assert outcome.code == 4
    assert "9 of 9 prompts have other tokens" in outcome.out and "the first at token 0" in outcome.out
    assert "answers " not in outcome.out


@pytest.mark.slow
def test_an_interrupted_check_goes_on(copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, merged = copy
    judged(run, merged)
    folder = run / "artefacts" / "merged"
    whole = read(folder / "artefact.json")
    (folder / "artefact.json").unlink()
    monkeypatch.setattr("keeptune.evaluation.skill_score.score_skill", None)  # it must not be asked again
    again = judged(run, merged, "--json").json
    assert {**again, "finished": "", "command": ""} == {**whole, "finished": "", "command": ""}


@pytest.mark.slow
def test_keeptune_serve_is_such_a_server(suite_run: Path) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="pip install 'keeptune[serve]'")
    pytest.importorskip("prometheus_client", reason="pip install 'keeptune[serve]'")
    from keeptune.serving.app import AppSettings, create_app
    from keeptune.serving.engine import Engine
    from keeptune.serving.metrics import Metrics
    from keeptune.serving.served_run import open_run

    run = suite_run
    loaded = open_run(str(run), [], 2000, 4)
    app = create_app(loaded, Engine(loaded.decoder, loaded.scales, 100, 60, Metrics()), AppSettings())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        record = judged(run, f"http://127.0.0.1:{port}", "--json").json
    finally:
        server.should_exit = True
        thread.join()
    assert record["skill"]["equal"] == 9 and record["prompts"]["differing"] == 0
    assert set(record["abilities"]) == {"instructions"}  # without a chat template, under the stored prompt
    assert "prompts that begin with" in record["left_out"]["reading-en"]
    assert all("no log-probabilities" in record["left_out"][name] for name in ("grammar", "general-text"))


@pytest.mark.slow
def test_export_proves_itself(copy: tuple[Path, Path], tmp_path: Path) -> None:
    run, _ = copy
    outcome = keeptune("export", run, "--to", "merged", "--out", tmp_path / "proved", "--prove")
    assert outcome.code in (0, 4, 6), outcome.err
    record = read(run / "artefacts" / "proved" / "artefact.json")
    assert outcome.code == {"pass": 0, "fail": 4, "undecided": 6}[record["verdict"]], outcome.err
    assert "9 of 9 are equal" in outcome.out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["RUN", "--tuned", "x"], "--artefact"),
        (["RUN", "--artefact", "nowhere"], "no such file"),
        (["--artefact", "x"], "needs the run"),
        (["--base", "x"], "--tuned"),
        (["RUN", "--artefact", "x", "--seed", "1"], "--seed"),
        (["RUN", "--artefact", "x", "--abilities", "chat"], "did not measure"),
        (["RUN", "--artefact", "ADAPTER"], "export.json"),
        (["RUN", "--artefact", "http://127.0.0.1:9/v1"], "no answer"),
    ],
)
def test_what_cannot_be_judged_is_refused(finished: Path, options: list[str], named: str) -> None:
    places = {"RUN": str(finished), "ADAPTER": str(finished / "adapter")}
    assert named in refused(2, "gate", *(places.get(option, option) for option in options))
