"""Scores and answers on anything held out: for a run, for an adapter that was handed over, or for a base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeptune.config.sections import PromptSection, ScoreSection
from keeptune.data.reader import Rejected, read_rows, reject
from keeptune.data.row import NOT_UNDERSTOOD, is_utf8
from keeptune.data.selection import digest
from keeptune.errors import DataError, RecipeError
from keeptune.evaluation import reading as retained
from keeptune.evaluation import skill as skills
from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.abilities.registry import abilities_named
from keeptune.evaluation.fingerprint import adapter_facts, record_cache
from keeptune.evaluation.retention_suite import ask
from keeptune.evaluation.suite.loader import Size
from keeptune.files import write_records
from keeptune.generation.distributed import SharedGenerator, help_out
from keeptune.generation.record_cache import AGAIN, RecordCache
from keeptune.generation.vllm import Served, final_generator
from keeptune.grading.number import final_answer
from keeptune.grading.squad import reading_items
from keeptune.models import adapter as adapters
from keeptune.models import adapter_metadata as adapter_card
from keeptune.models import load as models
from keeptune.models.out_of_memory import memory_for
from keeptune.progress import Listener, Silent
from keeptune.prompts import named
from keeptune.prompts.chat import Layout, fallback_prompt
from keeptune.prompts.template import Prompt
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Skill
from keeptune.skills.registry import skill_named
from keeptune.training.distributed import processes

Record = dict[str, Any]
_SHOWN_REJECTED = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A model that is ready to answer, and how it is to be asked."""

    name: str
    model: str
    generator: SharedGenerator
    prompt: Prompt
    budgets: dict[str, int]
    same_prompt: bool
    kept: RecordCache | None = None


def open_target(name: str, template: str | None = None, other_prompt: bool = False, remembered: bool = False) -> Target:
    """The model behind a run directory, an adapter folder, a merged model's folder, or the name of a base model.

    `remembered`: what it answers to the same questions is kept. That takes a hash of all weights.

    errors: PromptError when `template` is not the stored prompt, unless `other_prompt` says that this is meant.
    """
    folder = adapter_folder(name)
    card = _card(name)
    prompt = (
        named.prompt(template) if template is not None else card.prompt if card else Prompt(PromptSection().template)
    )
    if card and not other_prompt:
        prompt.require_same(card.prompt, str(folder or name))
    same = card is None or prompt.sha256 == card.prompt.sha256
    if folder is None or card is None:
        dtype = card.dtype if card else "auto"
        tokenizer, model = models.load_tokenizer(name), models.load_model(name, dtype)
        models.check_tokenizer(model, tokenizer)
        kept = record_cache(model, tokenizer).with_facts(adapter_facts(None, 0.0)) if remembered else None
        generator = _generator(model, tokenizer, Served(name, dtype), remembered)
        return Target(name, name, generator, prompt, card.budgets if card else {}, same, kept)
    tokenizer, base = models.load_tokenizer(card.model), models.load_model(card.model, card.dtype, card.quantization)
    models.check_tokenizer(base, tokenizer)
    kept = record_cache(base, tokenizer).with_facts(adapter_facts(folder, card.scale)) if remembered else None
    model = adapters.load_adapter(base, folder)
    adapters.set_scale(model, card.scale)
    served = Served(card.model, card.dtype, card.quantization, folder, card.scale)
    generator = _generator(model, tokenizer, served, remembered)
    return Target(name, card.model, generator, prompt, card.budgets, same, kept)


def _generator(model: Any, tokenizer: Any, served: Served, many: bool) -> SharedGenerator:
    """What writes answers: for `many` the one of final scores."""
    group = processes()
    return final_generator(model, tokenizer, group, served) if many else SharedGenerator(model, tokenizer, group)


@memory_for("scoring")
def score_files(
    target: str,
    skill: Path | None,
    reading: str | None,
    limit: int = 0,
    template: str | None = None,
    other_prompt: bool = False,
    out: Path | None = None,
    listener: Listener | None = None,
    abilities: Sequence[str] = (),
    suite: Size = "standard",
) -> Record | None:
    """The scores of a target on held-out files: `skill` and `retained` as in result.json, and how it was asked.

    `abilities` of the retention suite are scored too, for this one model: a verdict needs the base as well (`gate`).

    Of several processes each writes a share of the answers, and the first has the scores; None on the others.
    """
    if skill is None and reading is None and not abilities:
        raise RecipeError("nothing to score: give --skill FILE, --retained FILE (or `embedded`), or --abilities NAME,…")
    chosen = abilities_named(abilities, suite)
    listener = listener or Silent()
    asked, rejected = _questions(skill, target, limit) if skill else ([], [])
    items = reading_items(reading, limit) if reading else []
    opened = open_target(target, template, other_prompt, remembered=True)
    assert opened.kept is not None
    group = processes()
    if not group.first:
        help_out(group, lambda: opened.generator)
        return None
    generator, settings = opened.generator, ScoreSection()
    kept = opened.kept.with_facts({"answered_by": generator.packages})
    scored: Record = {
        "target": target,
        "model": opened.model,
        "prompt": {"template": opened.prompt.template, "sha256": opened.prompt.sha256, "stored": opened.same_prompt},
    }
    if skill:
        skills.require_invoked(opened.generator, opened.prompt, (own.problem for own in asked))
        count = listener.counter("problems", len(asked))
        records, there = kept.records(
            skills.facts(opened.prompt, asked, opened.budgets),
            lambda: skills.score_skill(generator, opened.prompt, asked, opened.budgets, count),
        )
        if there:
            listener.say(f"problems{AGAIN}")
        scored["skill"] = {"file": str(skill), **skills.summary(records), "rejected": _shown(rejected)}
        if out:
            write_records(out / "skill.jsonl", records)
    if reading:
        count = listener.counter("reading questions", len(items))
        layout = settings.reading_prompt
        records, there = kept.records(
            retained.facts(items, layout),
            lambda: retained.score_retained(generator, items, layout, count),
        )
        if there:
            listener.say(f"reading questions{AGAIN}")
        scored["retained"] = {
            "set": reading,
            "metric": retained.SQUAD,
            "prompt": settings.reading_prompt,
            **retained.summary(records),
            "contest_metric": retained.summary(records, retained.CONTEST),
        }
        if out:
            write_records(out / "retained.jsonl", records)
    if chosen:
        scored["abilities"] = _ability_means(chosen, suite, opened, kept, out, listener)
    group.gather(None)  # the others need not wait for questions any more
    return scored


def _ability_means(
    abilities: Sequence[Ability], suite: Size, opened: Target, kept: RecordCache, out: Path | None, listener: Listener
) -> Record:
    """Each measure of each ability, for one model."""
    fallback = fallback_prompt(opened.prompt, opened.generator.invocation is not None)
    layout = Layout(opened.generator.tokenizer, fallback)
    subject, means = Subject(opened.generator, layout), {}
    for own in abilities:
        items = own.items("final", suite)
        records = ask(kept, opened.name, subject, own, items, None, listener)
        means[own.name] = {
            part.name: {"mean": float(part.base.sum() / part.weights.sum()), "n": len(part.base), "kind": part.kind}
            for part in own.measurements(records, records)
            if len(part.base)
        }
        if out:
            write_records(out / f"ability-{own.name}.jsonl", records)
    return means


@memory_for("answering")
def ask_one(target: str, problem: str) -> Record:
    """The model's answer to one problem: its output, and the final answer in it."""
    problem = problem.strip()
    if not problem:
        raise RecipeError("the problem is empty; write it as the skill does, e.g. '计算 12.50 + 7.25 等于多少？'")
    if not is_utf8(problem):
        raise RecipeError("the problem is not UTF-8; set the terminal to UTF-8, or pass the problem in it")
    opened = open_target(target)
    tokens = opened.prompt.encode(opened.generator.tokenizer, problem)
    skills.require_invoked(opened.generator, opened.prompt, [problem])
    answer = opened.generator.answer([tokens], [skills.longest(opened.budgets)], skills.answered)[0]
    found = final_answer(answer.text)
    return {
        "problem": problem,
        "prompt": opened.prompt.render(problem),
        "output": answer.text.strip(),
        "answer": found[0] if found else None,
        "source": found[1] if found else None,
        "stopped": answer.stopped,
    }


def text(scored: Record) -> str:
    """The scores for people to read."""
    lines = [f"{scored['target']} (base model {scored['model']})"]
    if skill := scored.get("skill"):
        low, high = (100 * bound for bound in skill["ci95"])
        lines.append(f"skill    {skill['accuracy']:.1%} (95 %: {low:.1f}–{high:.1f}) of {skill['n']}")
        lines += [f"  {kind:10} {own['accuracy']:7.1%} of {own['n']}" for kind, own in skill["by_kind"].items()]
        if skill["rejected"]["rows"]:
            lines.append(f"  {skill['rejected']['rows']} rows were not understood and not asked")
    if kept := scored.get("retained"):
        lines.append(f"reading  F1 {kept['f1']:.2f}  EM {kept['em']:.2f}  of {kept['n']} ({kept['empty']} empty)")
    for name, measures in scored.get("abilities", {}).items():
        shown = (
            f"{measure} {own['mean']:.1%}" if own["kind"] == "score" else f"{measure} {own['mean']:.3f} nats per token"
            for measure, own in measures.items()
        )
        lines.append(f"{name}  {', '.join(shown)}")
    return "\n".join(lines)


def adapter_folder(name: str) -> Path | None:
    """The adapter behind a run directory or a folder, or None where the name is a base model's.

    errors: RecipeError when the run has none yet.
    """
    folder = Path(name).expanduser()
    # First, for the recipe that it was made by may lie beside an adapter.
    if (folder / "adapter_config.json").is_file():
        return folder
    if (folder / "recipe.yaml").is_file():
        if not (folder / "adapter" / adapter_card.FILE).is_file():
            raise RecipeError(f"{folder}: this run has no adapter yet; finish it with `keeptune run` first")
        return folder / "adapter"
    return None


def _questions(path: Path, target: str, limit: int) -> tuple[list[skills.Asked], list[Rejected]]:
    """The questions of a file, each row once in its order, and the rows that no kind understands."""
    skill, asked, rejected = _skill(target), [], []
    for row in read_rows(path):
        if isinstance(row, Rejected):
            rejected.append(row)
            continue
        question = skill.read(row.problem, row.solution)
        if question is None:
            rejected.append(reject(row.file, row.line, NOT_UNDERSTOOD, row.problem))
        else:
            name = f"{row.line}:{digest(question.text).hex()}"
            asked.append(skills.Asked(name, question.kind, question.text, question.truth))
        if limit and len(asked) == limit:
            break
    if not asked:
        reasons = "; ".join(sorted({row.reason for row in rejected}))
        raise DataError(f'{path}: no row can be asked ({reasons}); rows are {{"problem", "solution"}} objects')
    return asked, rejected


def _skill(target: str) -> Skill:
    """What a model was taught; a base model is asked arithmetic."""
    card = _card(target)
    return skill_named(card.skill if card else Arithmetic.name)


def _card(target: str) -> adapter_card.AdapterCard | None:
    """What an adapter, or a model that one was merged into, must not be separated from; None of a base model."""
    folder = adapter_folder(target)
    return adapter_card.beside(target) if folder is None else adapter_card.load(folder)


def _shown(rejected: Sequence[Rejected]) -> Record:
    first = [{"line": row.line, "reason": row.reason} for row in rejected[:_SHOWN_REJECTED]]
    return {"rows": len(rejected), "first": first}
