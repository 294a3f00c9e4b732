"""Evaluates a run, an adapter folder or a base model on files of held-out questions, and answers single questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keeptune.config.data import ColumnsSection
from keeptune.config.prompt import PromptSection
from keeptune.config.score import ScoreSection
from keeptune.data.reader import RejectedRow
from keeptune.data.row import is_utf8
from keeptune.errors import RecipeError, RunError
from keeptune.evaluation import reading_score, skill_score
from keeptune.evaluation.abilities.base import Ability, Subject
from keeptune.evaluation.abilities.registry import abilities_named
from keeptune.evaluation.fingerprint import adapter_fingerprint, record_cache
from keeptune.evaluation.model_pair import find_adapter
from keeptune.evaluation.suite.loader import Size
from keeptune.evaluation.suite_evaluation import collect_records
from keeptune.files import Record, write_records
from keeptune.generation.distributed import DistributedGenerator, answer_together
from keeptune.generation.record_cache import FROM_CACHE, RecordCache
from keeptune.generation.self_test import load_checked_model
from keeptune.generation.vllm import ServedModel, open_generator
from keeptune.grading.base import Grader
from keeptune.grading.number import find_final_answer
from keeptune.grading.squad import ReadingItem, load_reading_items
from keeptune.models import adapter_metadata, adapters, base_identity
from keeptune.models import load as models
from keeptune.models.out_of_memory import explain_out_of_memory
from keeptune.pipeline.run_lock import run_lock
from keeptune.pipeline.score_questions import read_questions
from keeptune.pipeline.score_request import Request, parse_columns, parse_grader
from keeptune.progress import Reporter, SilentReporter
from keeptune.prompts import named
from keeptune.prompts.chat import ChatLayout, fallback_prompt
from keeptune.prompts.chat_prompt import CHAT, AnyPrompt, ChatPrompt, chat_prompt
from keeptune.prompts.template import Prompt
from keeptune.prompts.token_count import ChatRows, TokenCounter
from keeptune.skills.arithmetic.skill import Arithmetic
from keeptune.skills.base import Skill
from keeptune.skills.graded_text import GradedText
from keeptune.skills.registry import skill_by_name
from keeptune.training.distributed import distributed_context

_SHOWN_REJECTED = 20


@dataclass(frozen=True, slots=True)
class Target:
    """A loaded model with its prompt and answer budgets."""

    name: str
    model: str
    generator: DistributedGenerator
    prompt: AnyPrompt
    budgets: dict[str, int]
    same_prompt: bool
    cache: RecordCache | None = None


def open_target(name: str, template: str | None = None, other_prompt: bool = False, with_cache: bool = False) -> Target:
    """The model behind a run directory, an adapter folder, a merged model's folder, or the name of a base model.

    With `with_cache`, answers are cached for the same questions, which requires a hash of all weights.

    Raises:
        PromptError: when `template` is not the stored prompt, unless `other_prompt` is set.
        ModelError: when the base model is not the one that the adapter was trained on.
    """
    folder, card, base = find_adapter(name), _card(name, template), _base_model(name, template)
    tokenizer = models.load_tokenizer(base)
    prompt = _prompt(template, card, base, tokenizer)
    if card and not other_prompt:
        prompt.require_same(card.prompt, str(folder or name))
    is_stored_prompt = card is None or prompt.sha256 == card.prompt.sha256
    if folder is None or card is None:
        dtype = card.dtype if card else "auto"
        model, _ = load_checked_model(name, tokenizer, dtype)
        cache = record_cache(model, tokenizer).extended(adapter_fingerprint(None, 0.0)) if with_cache else None
        generator = _generator(model, tokenizer, ServedModel(name, dtype), with_cache)
        return Target(name, name, generator, prompt, card.budgets if card else {}, is_stored_prompt, cache)
    base_identity.require_same(card.base, card.model, str(folder))
    model, _ = load_checked_model(card.model, tokenizer, card.dtype, card.quantization)
    cache = record_cache(model, tokenizer).extended(adapter_fingerprint(folder, card.scale)) if with_cache else None
    tuned = adapters.load_adapter(model, folder)
    adapters.set_scale(tuned, card.scale)
    served = ServedModel(card.model, card.dtype, card.quantization, folder, card.scale)
    generator = _generator(tuned, tokenizer, served, with_cache)
    return Target(name, card.model, generator, prompt, card.budgets, is_stored_prompt, cache)


def _prompt(
    template: str | None, card: adapter_metadata.AdapterMetadata | None, model: str, tokenizer: Any
) -> AnyPrompt:
    """The prompt that the user names, or else the stored one, or else the default of a recipe.

    A chat prompt is made of the tokenizer at hand, with the stored arguments, so that a changed template is noticed.
    """
    stored = card.prompt if card else None
    if template not in (None, CHAT):
        return named.resolve_prompt(template)
    if isinstance(stored, ChatPrompt):
        ends = models.load_end_tokens(model, tokenizer)
        return chat_prompt(tokenizer, ends, stored.arguments, stored.system, stored.loss_on)
    if template == CHAT:
        return models.load_prompt(PromptSection(template=CHAT), model, tokenizer)
    return stored or Prompt(PromptSection().template)


def _generator(model: Any, tokenizer: Any, served: ServedModel, many: bool) -> DistributedGenerator:
    """The generator; for `many` answers that of the final evaluation, which may be vLLM."""
    group = distributed_context()
    return open_generator(model, tokenizer, group, served) if many else DistributedGenerator(model, tokenizer, group)


@explain_out_of_memory("scoring")
def score_files(
    target: str,
    request: Request,
    template: str | None = None,
    other_prompt: bool = False,
    reporter: Reporter | None = None,
) -> Record | None:
    """The scores of one model on held-out files: `skill` and `retained` as in result.json, and the prompt.

    A verdict on abilities needs the base model as well: see `keeptune gate`. With several processes each generates a
    share of the answers; the first returns the scores and the others None.

    Raises:
        RecipeError: when nothing is requested.
        DataError: when a file cannot be read.
        PromptError: when `template` is not the stored prompt, unless `other_prompt` is set.
    """
    if request.skill is None and request.reading is None and not request.abilities:
        raise RecipeError("nothing to score: give --skill FILE, --retained FILE (or `embedded`), or --abilities NAME,…")
    abilities = abilities_named(request.abilities, request.suite)
    reporter = reporter or SilentReporter()
    questions, skill = None, None
    if request.skill:
        skill, columns = _skill_and_columns(target, request, template)
        chat = _chat_rows(target, template)
        questions = read_questions(request.skill, skill, columns, request.limit, chat)
    items = load_reading_items(request.reading, request.limit, reporter.info) if request.reading else []
    opened = open_target(target, template, other_prompt, with_cache=True)
    assert opened.cache is not None
    cache = opened.cache.extended({"answered_by": opened.generator.packages})
    scores: Record = {
        "target": target,
        "model": opened.model,
        "prompt": {"template": opened.prompt.template, "sha256": opened.prompt.sha256, "stored": opened.same_prompt},
    }

    def work() -> Record:
        with run_lock(request.out) if request.out else nullcontext():
            if questions and skill:
                scores["skill"] = _skill_scores(opened, cache, request, skill.grader, *questions, reporter)
            if request.reading:
                scores["retained"] = _reading_scores(opened, cache, request, items, reporter)
            if abilities:
                scores["abilities"] = _ability_means(abilities, request.suite, opened, cache, request.out, reporter)
        return scores

    return answer_together(distributed_context(), lambda: opened.generator, work)


def evaluate(
    target: str | Path,
    *,
    skill: str | Path | None = None,
    reading: str | Path | None = None,
    abilities: Sequence[str] = (),
    suite: Size = "standard",
    limit: int = 0,
    grader: str | Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Record:
    """The scores of a run, an adapter folder or a base model on held-out files, as `keeptune score --json` prints them.

    Raises:
        as `score_files`, and RecipeError for a wrong `grader` or wrong `columns`.
    """
    request = Request(
        Path(skill) if skill else None,
        str(reading) if reading else None,
        abilities,
        suite,
        limit,
        grader=parse_grader(grader) if grader else None,
        columns=parse_columns(columns) if columns else None,
    )
    scores = score_files(str(target), request, reporter=reporter)
    if scores is None:
        raise RunError("this process is a worker of a distributed evaluation; only the first process has the scores")
    return scores


def _skill_scores(
    opened: Target,
    cache: RecordCache,
    request: Request,
    grader: Grader | None,
    questions: Sequence[skill_score.SkillQuestion],
    rejected: Sequence[RejectedRow],
    reporter: Reporter,
) -> Record:
    """Accuracy on the problems of a file."""
    skill_score.check_invoked(opened.generator, opened.prompt, (one.problem for one in questions))
    count = reporter.counter("problems", len(questions))
    records, cached = cache.get_or_compute(
        skill_score.fingerprint(opened.prompt, questions, opened.budgets, grader),
        lambda: skill_score.score_skill(opened.generator, opened.prompt, questions, opened.budgets, count, grader),
    )
    if cached:
        reporter.info(f"problems{FROM_CACHE}")
    if request.out:
        write_records(request.out / "skill.jsonl", records)
    return {"file": str(request.skill), **skill_score.summarize(records, grader), "rejected": _shown(rejected)}


def _reading_scores(
    opened: Target, cache: RecordCache, request: Request, items: Sequence[ReadingItem], reporter: Reporter
) -> Record:
    """F1 and EM on reading questions, by SQuAD's metric and by the contest's."""
    count = reporter.counter("reading questions", len(items))
    layout = ScoreSection().reading_prompt
    records, cached = cache.get_or_compute(
        reading_score.fingerprint(items, layout),
        lambda: reading_score.score_reading(opened.generator, items, layout, count),
    )
    if cached:
        reporter.info(f"reading questions{FROM_CACHE}")
    if request.out:
        write_records(request.out / "retained.jsonl", records)
    return {
        "set": request.reading,
        "metric": reading_score.SQUAD,
        "prompt": layout,
        **reading_score.summarize(records),
        "contest_metric": reading_score.summarize(records, reading_score.CONTEST),
    }


def _ability_means(
    abilities: Sequence[Ability], suite: Size, opened: Target, cache: RecordCache, out: Path | None, reporter: Reporter
) -> Record:
    """The mean of each measure of each ability, for one model."""
    fallback = fallback_prompt(opened.prompt, opened.generator.invocation is not None)
    layout = ChatLayout(opened.generator.tokenizer, fallback)
    subject, means = Subject(opened.generator, layout), {}
    for ability in abilities:
        items = ability.items("final", suite)
        records = collect_records(cache, opened.name, subject, ability, items, None, reporter)
        means[ability.name] = {
            part.name: {"mean": float(part.base.sum() / part.weights.sum()), "n": len(part.base), "kind": part.kind}
            for part in ability.measurements(records, records)
            if len(part.base)
        }
        if out:
            write_records(out / f"ability-{ability.name}.jsonl", records)
    return means


@explain_out_of_memory("answering")
def ask_one(target: str, problem: str) -> Record:
    """The model's output for one problem, and the final answer in it."""
    problem = problem.strip()
    if not problem:
        raise RecipeError("the problem is empty; write it as the skill does, e.g. '计算 12.50 + 7.25 等于多少？'")
    if not is_utf8(problem):
        raise RecipeError("the problem is not UTF-8; set the terminal to UTF-8, or pass the problem in it")
    opened, card = open_target(target), _card(target)
    grader = card.grader if card else None
    tokens = opened.prompt.encode(opened.generator.tokenizer, problem)
    skill_score.check_invoked(opened.generator, opened.prompt, [problem])
    answer = opened.generator.answer(
        [tokens], [skill_score.default_budget(opened.budgets)], skill_score.stop_rule(grader)
    )[0]
    final_answer, source = (None, None) if grader else find_final_answer(answer.text) or (None, None)
    return {
        "problem": problem,
        "prompt": opened.prompt.render(problem),
        "output": answer.text.strip(),
        "answer": grader.location.find(answer.text) if grader else final_answer,
        "source": source,
        "stopped": answer.stopped,
    }


def text(scored: Record) -> str:
    """The scores as text."""
    lines = [f"{scored['target']} (base model {scored['model']})"]
    if skill := scored.get("skill"):
        low, high = (100 * bound for bound in skill["ci95"])
        lines.append(f"skill    {skill['accuracy']:.1%} (95 %: {low:.1f}–{high:.1f}) of {skill['n']}")
        lines += [
            f"  {kind:10} {scores['accuracy']:7.1%} of {scores['n']}" for kind, scores in skill["by_kind"].items()
        ]
        if skill["rejected"]["rows"]:
            first = skill["rejected"]["first"][0]
            lines.append(
                f"  {skill['rejected']['rows']} rows were skipped; the first, line {first['line']}: {first['reason']}"
            )
    if reading := scored.get("retained"):
        figures = f"F1 {reading['f1']:.2f}  EM {reading['em']:.2f}"
        lines.append(f"reading  {figures}  of {reading['n']} ({reading['empty']} empty)")
    for name, measures in scored.get("abilities", {}).items():
        shown = (
            f"{measure} {value['mean']:.1%}"
            if value["kind"] == "score"
            else f"{measure} {value['mean']:.3f} nats per token"
            for measure, value in measures.items()
        )
        lines.append(f"{name}  {', '.join(shown)}")
    return "\n".join(lines)


def _skill_and_columns(target: str, request: Request, template: str | None) -> tuple[Skill, ColumnsSection]:
    """The skill and the columns of the rows: those of the request, else those that the model was trained on.

    Without both, they are arithmetic and the default columns.
    """
    card = _card(target, template)
    columns = request.columns or (card.columns if card else ColumnsSection())
    if request.grader:
        skill: Skill = GradedText(request.grader, {})
    else:
        skill = skill_by_name(card.skill, card.grader) if card else Arithmetic()
    if skill.grader:
        skill.grader.check_available()
    return skill, columns


def _chat_rows(target: str, template: str | None) -> ChatRows | None:
    """The check of rows under a chat prompt; None for a template. It loads the tokenizer, but no model."""
    card = _card(target, template)
    uses_chat = template == CHAT or (template is None and card is not None and isinstance(card.prompt, ChatPrompt))
    if not uses_chat:
        return None
    base = _base_model(target, template)
    tokenizer = models.load_tokenizer(base)
    return TokenCounter.of(tokenizer, _prompt(template, card, base, tokenizer)).chat


def _base_model(target: str, template: str | None) -> str:
    """The model to load for a target: the base model of an adapter, or the target itself."""
    card = _card(target, template)
    return card.model if card is not None and find_adapter(target) is not None else target


def _card(target: str, template: str | None = None) -> adapter_metadata.AdapterMetadata | None:
    """The metadata of an adapter or of a merged model; None for a base model.

    An adapter of another program has none. With a prompt template it is used as PEFT describes it.
    """
    folder = find_adapter(target)
    if folder is None:
        return adapter_metadata.load_if_present(target)
    if template is None or (folder / adapter_metadata.FILE).is_file():
        return adapter_metadata.load(folder)
    model = adapters.base_model_name(folder)
    prompt = _prompt(template, None, model, models.load_tokenizer(model))
    return adapter_metadata.AdapterMetadata(model, Arithmetic.name, prompt, {}, 1.0)


def _shown(rejected: Sequence[RejectedRow]) -> Record:
    first = [{"line": row.line, "reason": row.reason} for row in rejected[:_SHOWN_REJECTED]]
    return {"rows": len(rejected), "first": first}
