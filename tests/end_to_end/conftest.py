"""What the end-to-end tests share: a corpus, reading questions of known difficulty, a recipe, and one finished run."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from end_to_end.command import keeptune, ok, records

Tree = dict[str, Any]
MakeRecipe = Callable[..., Path]

KINDS = ["area", "mass", "sales"]
_TOPICS = (
    "mill",
    "ferry",
    "orchard",
    "tunnel",
    "library",
    "harbour",
    "quarry",
    "market",
    "bridge",
    "chapel",
    "well",
    "inn",
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, here and in the processes that are started: results in equal bytes ask for equally many threads,
    and a tiny model on several of them is slow as soon as anything else runs on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for what the tests share, instead of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for each test, so that equal answers of two runs are computed twice, and not found."""
    monkeypatch.setenv("KEEPTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows as the contest has them, of which 5 % are bad."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    ok("synth", "--rows", 1000, "--seed", 3, "--bad-share", 0.05, "--out", path)
    return path


@pytest.fixture(scope="session")
def squad(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """36 reading questions, of which the tiny model answers exactly every second one: a base that can lose something.

    Its random weights know nothing, so what it says is asked first, and then declared right.
    """
    folder = tmp_path_factory.mktemp("squad")
    said: dict[str, str] = {}

    def write() -> Path:
        asked = [(number, f"q{number}") for number in range(3 * len(_TOPICS))]
        paragraphs = [
            {
                "context": f"The old {topic} was built in {1800 + place} by {3 + place} masons from the north.",
                "qas": [
                    {
                        "id": name,
                        "question": ("When was it built?", "Who built it?", "What was it?")[number % 3],
                        "answers": [{"text": said.get(name, "unsayable") if number % 2 else "unsayable"}],
                    }
                    for number, name in asked[3 * place : 3 * place + 3]
                ],
            }
            for place, topic in enumerate(_TOPICS)
        ]
        path = folder / "squad.json"
        path.write_text(json.dumps({"data": [{"title": "Old things", "paragraphs": paragraphs}]}), encoding="utf-8")
        return path

    ok("score", model_folder, "--retained", write(), "--out", folder)
    said.update({record["id"]: record["prediction"] for record in records(folder / "retained.jsonl")})
    return write()


@pytest.fixture(scope="session")
def tree(corpus: Path, squad: Path, model_folder: Path) -> Tree:
    """A recipe that a laptop finishes in two seconds."""
    return {
        "name": "tiny",
        "model": {"name": str(model_folder), "dtype": "float32"},
        "data": {
            "files": [str(corpus)],
            "kinds": KINDS,
            "quota": {"area": 16, "sales": 10},
            "reject_limit": 0.1,
            "max_tokens": 1000,
            "split": {"dev": 6, "test": 9},
        },
        "adapter": {"rank": 2, "alpha": 4},
        "train": {
            "epochs": 3,
            "learning_rate": 0.002,
            "tokens_per_step": 300,
            "tokens_per_batch": 300,
            "checkpoint_every_steps": 4,
            "score_every_steps": 6,
        },
        "score": {"retained": str(squad), "dev_limit": 6, "suite": "none"},
        "gate": {"policy": "contest", "resamples": 1000},
    }


@pytest.fixture
def make_recipe(tree: Tree, tmp_path: Path) -> MakeRecipe:
    """Writes the recipe with changes, each a section's name and what differs in it."""

    def make(**changes: Any) -> Path:
        changed = {
            name: {**tree.get(name, {}), **change} if isinstance(change, dict) else change
            for name, change in changes.items()
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**tree, **changed}, allow_unicode=True), encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="session")
def recipe(tree: Tree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the finished run."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through all stages without a break; tests read it, and copy it to change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    ok("run", recipe, "--run", folder)
    return folder


def run_quick_suite(tree: Tree, folder: Path, abilities: list[str], **score: Any) -> Path:
    """A finished run of the tiny model with a part of the quick suite, in `folder`."""
    changed = {
        **tree,
        "score": {**tree["score"], "suite": "quick", "abilities": abilities, **score},
        "gate": {"resamples": 1000},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(changed, allow_unicode=True), encoding="utf-8")
    outcome = keeptune("run", folder / "recipe.yaml", "--run", folder / "run")
    assert outcome.code in (0, 4), outcome.err
    return folder / "run"
