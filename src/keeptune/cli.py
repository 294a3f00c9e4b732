"""The command line: each verb parses, calls, prints. What a verb does stands elsewhere.

Results go to standard output, everything else to standard error. Exit codes: 0 ok, 2 usage or recipe, 3 data,
4 gate failed, 5 interrupted and resumable (errors.py draws the tree).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from keeptune import recipe as recipes
from keeptune.console import ConsoleListener
from keeptune.errors import EXIT_GATE_FAILED, DataError, Interrupted, KeeptuneError, RecipeError
from keeptune.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach an open language model a narrow skill with LoRA, and prove that it kept what it knew.",
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe, e.g. recipes/quickstart.yaml")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")]
Settings = Annotated[list[str], typer.Option("--set", metavar="A.B=C", help="override a value of the recipe")]
Processes = Annotated[int, typer.Option(min=0, help="processes for the data stage; 0: as many as pay")]
ClusterAddress = Annotated[
    str | None, typer.Option("--cluster", metavar="ADDRESS", help="a Ray cluster (HOST:PORT) for the data stage")
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON to standard output")]


class _Stopped(BaseException):
    """The process was asked to stop. Neither typer nor an `except Exception` on the way can swallow it."""


def main() -> None:
    """The command `keeptune`: runs a verb, and turns keeptune's errors into one message and their exit code."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    # PEFT imports it wherever it is installed, and it then says which kernels it has not got.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Training waits for the end of its step instead (train/loop.py); no other stage has anything to save.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        # However a command ends, it leaves no bar behind, and the cursor.
        with closing(ConsoleListener()) as listener:
            app(obj=listener)
    except KeeptuneError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except _Stopped:
        _complain("stopped; run the same command again to go on")
        sys.exit(Interrupted.exit_code)


def _complain(message: str) -> None:
    # Which one says it, where a launcher has started several processes.
    number = os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"
    print(f"keeptune{f' (process {number})' if number != '0' else ''}: {message}", file=sys.stderr)


def _stop(number: int, _: Any) -> None:
    raise _Stopped(number)


@app.command()
def run(
    context: typer.Context,
    recipe: RecipeFile,
    folder: Annotated[Path | None, typer.Option("--run", help="run directory; default: runs/NAME")] = None,
    settings: Settings = [],  # noqa: B006  (typer copies it)
    processes: Processes = 0,
    cluster: ClusterAddress = None,
    workers: Annotated[int, typer.Option(min=0, help="with --cluster: workers that train there together")] = 0,
    as_json: AsJson = False,
) -> None:
    """All stages: data, train, select, score, report. The same command again resumes."""
    loaded = recipes.load(recipe, tuple(settings))
    job = _create(context, folder or Path("runs") / loaded.name, loaded, processes, cluster)
    result = _on_workers(job, recipe, settings, cluster, workers) if workers else job.all()
    if result is None:  # this process has only helped to train
        return
    _print_result(result, job.folder, as_json)
    if result["gate"]["verdict"] == "fail":
        sys.exit(EXIT_GATE_FAILED)


@app.command()
def sweep(
    context: typer.Context,
    recipe: RecipeFile,
    vary: Annotated[
        list[str],
        typer.Option(metavar="A.B=LOW..HIGH", help="a setting to vary, or A.B=X,Y,… for its values; repeatable"),
    ],
    trials: Annotated[int, typer.Option(min=1, help="how many trials in all; more, later, go on from there")] = 20,
    folder: Annotated[
        Path | None, typer.Option("--run", help="directory of the sweep; default: runs/NAME-sweep")
    ] = None,
    settings: Settings = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Many runs with other settings, for more skill, more reading kept, fewer parameters. Resumes like a run."""
    from keeptune.sweep import sweep as search
    from keeptune.sweep import text
    from keeptune.vary import parse

    varied, overrides = tuple(map(parse, vary)), tuple(settings)
    place = folder or Path("runs") / f"{recipes.load(recipe, overrides).name}-sweep"
    made = search(recipe, overrides, varied, trials, place, context.obj)
    print(_json(made) if as_json else f"{text(made)}\n{place / 'sweep.html'}")


@app.command()
def verify(folder: RunFolder) -> None:
    """Recomputes every figure of a finished run from its stored answers, without a model. Exit code 3: some differ."""
    from keeptune.verify import text
    from keeptune.verify import verify as check

    made = check(folder)
    print(text(made))
    if made.faults:
        sys.exit(DataError.exit_code)


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN …", help="run directories; the first is the measure")
    ],
    other_questions: Annotated[
        bool, typer.Option("--other-questions", help="list runs that were scored on different questions, too")
    ] = False,
    leaderboard: Annotated[
        bool, typer.Option("--leaderboard", help="also among the contest's published results")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="PAGE.html", help="write a page of it, too")] = None,
    as_json: AsJson = False,
) -> None:
    """Runs side by side: scores, cost, and paired differences from the first."""
    from keeptune.compare import compare as side_by_side
    from keeptune.compare import published, text

    made = side_by_side(folders, other_questions)
    if out:
        from keeptune.files import write_text
        from keeptune.report.comparison import page

        write_text(out, page(made))
    print(_json(made) if as_json else text(made))
    if leaderboard and not as_json:
        print(f"\n{published(made)}")


@app.command()
def plan(
    context: typer.Context,
    recipe: RecipeFile,
    settings: Settings = [],  # noqa: B006
    processes: Processes = 0,
    cluster: ClusterAddress = None,
    as_json: AsJson = False,
) -> None:
    """Rows per kind, tokens, trainable parameters, time and memory, without training."""
    loaded = recipes.load(recipe, tuple(settings))
    from keeptune.data.workers import Staffing
    from keeptune.plan import plan as make_plan
    from keeptune.plan import text

    made = make_plan(loaded, context.obj, Staffing(processes, cluster))
    print(_json(made) if as_json else text(made))


@app.command()
def data(
    context: typer.Context,
    recipe: RecipeFile,
    folder: Annotated[Path | None, typer.Option("--run", help="run directory; default: runs/NAME")] = None,
    settings: Settings = [],  # noqa: B006
    processes: Processes = 0,
    cluster: ClusterAddress = None,
) -> None:
    """Only the data stage of a recipe, into a run directory."""
    loaded = recipes.load(recipe, tuple(settings))
    job = _create(context, folder or Path("runs") / loaded.name, loaded, processes, cluster)
    job.data()
    print(job.folder / "data" / "card.json")


@app.command()
def train(context: typer.Context, folder: RunFolder) -> None:
    """The training stage of a run; resumes from its newest checkpoint."""
    _open(context, folder).train()


@app.command()
def select(context: typer.Context, folder: RunFolder) -> None:
    """Chooses the checkpoint to hand over, on dev questions alone."""
    _open(context, folder).select()


@app.command()
def report(context: typer.Context, folder: RunFolder, as_json: AsJson = False) -> None:
    """Makes result.json, report.html and report.md anew from the stored answers."""
    _print_result(_open(context, folder).report(), folder, as_json)


@app.command()
def score(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="run directory, adapter folder or model")],
    skill: Annotated[Path | None, typer.Option(help="problems in any format that the data stage reads")] = None,
    retained: Annotated[str | None, typer.Option(help="a SQuAD v1.1 file, or `embedded`")] = None,
    limit: Annotated[int, typer.Option(min=0, help="only the first so many questions of each; 0: all")] = 0,
    prompt: Annotated[str | None, typer.Option(help="another prompt template; must hold {problem}")] = None,
    other_prompt: Annotated[bool, typer.Option("--other-prompt", help="accept a prompt other than the stored")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for the per-question records")] = None,
    as_json: AsJson = False,
) -> None:
    """Scores a run, an adapter or a base model on any held-out files."""
    from keeptune.held_out import score_files, text

    scored = score_files(target, skill, retained, limit, prompt, other_prompt, out, context.obj)
    if scored is not None:
        print(_json(scored) if as_json else text(scored))


@app.command()
def ask(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL")],
    problem: Annotated[str, typer.Argument(help="a problem, as the skill writes it")],
    as_json: AsJson = False,
) -> None:
    """The tuned model's answer to one problem, asked through the stored prompt."""
    from keeptune.held_out import ask_one

    answer = ask_one(target, problem)
    print(_json(answer) if as_json else answer["output"])


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="RUN_OR_ADAPTER", help="a finished run, or an adapter folder")],
    form: Annotated[
        Literal["merged", "mindspore", "mindformers", "mindrecord", "mindrecord-reading"],
        typer.Option(
            "--to",
            help="merged: one model; mindspore: .ckpt files under MindFormers' names; mindformers: a run's .ckpt and "
            "configurations to go on with it there; mindrecord: a run's training rows; mindrecord-reading: a run's "
            "reading questions",
        ),
    ],
    out: Annotated[Path, typer.Option(help="the folder to make")],
    seq_length: Annotated[
        int | None, typer.Option(min=1, help="of mindrecord: seq_length in MindFormers; 256 unless given")
    ] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="of mindrecord: files to spread the rows over")] = None,
) -> None:
    """A tuned model for other programs. What PEFT and transformers load is in a run's adapter/ already."""
    if form == "mindrecord" or form == "mindrecord-reading":
        from keeptune.mindspore.run_rows import export_reading, export_training

        write_rows = export_training if form == "mindrecord" else export_reading
        made = write_rows(Path(target), seq_length or 256, out, shards or 1)
        print(made.text(), file=sys.stderr)
        print("\n".join(str(out / name) for name in made.files))
        return
    if seq_length or shards:
        raise RecipeError(f"--seq-length and --shards are for --to mindrecord and mindrecord-reading, not for {form}")
    from keeptune.export import export as write_form

    print("\n".join(str(out / name) for name in write_form(target, form, out)))


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT|YAML|MINDRECORD",
            help="a MindFormers checkpoint with a LoRA, a configuration, or training rows",
        ),
    ],
    out: Annotated[Path, typer.Option(help="the adapter folder, the recipe, or the JSONL file of rows to make")],
    pet_config: Annotated[
        Path | None, typer.Option(metavar="YAML", help="the configuration that a checkpoint was trained with")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="the prompt that it was trained with: holds {problem}, or vicuna-alpaca, vicuna, alpaca"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="its base model, as in a recipe")] = None,
    skill: Annotated[Literal["arithmetic", "text"], typer.Option(help="what it was taught")] = "arithmetic",
    evaluation: Annotated[
        list[Path], typer.Option(metavar="YAML", help="a file that the adapter is evaluated with; repeatable")
    ] = [],  # noqa: B006
    data_file: Annotated[Path | None, typer.Option("--data", help="the rows for a recipe, in any format")] = None,
) -> None:
    """From MindFormers: an adapter in PEFT's layout out of a .ckpt, a recipe out of a .yaml, rows of a .mindrecord."""
    if ".mindrecord" in source.name:  # shards have their number behind it
        from keeptune.mindspore.record_rows import write_rows
        from keeptune.prompt.named import template

        print(write_rows(source, model or "smollm2-135m", template(prompt) if prompt else None, out).text())
        return
    if source.suffix in (".yaml", ".yml"):
        from keeptune.mindspore.recipe_yaml import write_recipe

        print(write_recipe(source, out, evaluation, data_file, prompt, model, skill))
        return
    if pet_config is None or prompt is None:
        raise RecipeError(f"{source}: a checkpoint holds neither alpha nor prompt; give --pet-config and --prompt")
    if evaluation or data_file:
        raise RecipeError(f"{source}: --evaluation and --data are for a recipe out of a .yaml; leave them out")
    from keeptune.mindspore.adopt import adopt
    from keeptune.prompt.named import prompt as prompt_of

    adopt(source, pet_config, model or "smollm2-135m", skill, prompt_of(prompt), out)
    print(out)


@app.command()
def synth(
    preset: Annotated[Literal["contest"], typer.Option(help="whose kinds, ranges, mix and format")] = "contest",  # noqa: ARG001
    rows: Annotated[
        int | None, typer.Option(min=1, help="how many rows; left out: 809,993, or 2,000 of them unique")
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed writes the same rows")] = 0,
    unique: Annotated[bool, typer.Option(help="the mix of the original's unique problems, without duplicates")] = False,
    bad_share: Annotated[float, typer.Option(min=0, max=0.5, help="share of rows that are wrong on purpose")] = 0.0,
    out: Annotated[Path, typer.Option(help="the JSONL file to write")] = Path("corpus.jsonl"),
    exclude: Annotated[
        list[str], typer.Option(metavar="FILE", help="leave out its problems and their twins; repeatable")
    ] = [],  # noqa: B006
) -> None:
    """A corpus in the contest's format, mix and duplicates."""
    from keeptune.data.guard import refusal
    from keeptune.files import write_whole
    from keeptune.skill.arithmetic.skill import Arithmetic
    from keeptune.skill.spoil import spoilt
    from keeptune.skill.synth import ORIGINAL_CORPUS_ROWS, UNIQUE_CORPUS_ROWS, corpus, unique_corpus

    refused = refusal(exclude, Arithmetic())
    if unique:
        made = unique_corpus(rows or UNIQUE_CORPUS_ROWS, seed, refused)
    else:
        made = corpus(rows or ORIGINAL_CORPUS_ROWS, seed, refused=refused)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in spoilt(made, bad_share, seed))

    write_whole(out, write)
    print(out)


def _create(context: typer.Context, folder: Path, recipe: Recipe, processes: int, cluster: str | None) -> Any:
    from keeptune.data.workers import Staffing
    from keeptune.run import Run

    return Run.create(folder, recipe, context.obj, Staffing(processes, cluster))


def _on_workers(job: Any, recipe: Path, settings: list[str], cluster: str | None, workers: int) -> dict[str, Any]:
    """What a run comes to whose later stages are a job on a cluster; its data is made first, by the same machines."""
    from keeptune.files import read_json
    from keeptune.train.on_cluster import on_cluster

    if cluster is None:
        raise RecipeError("--workers are those of a Ray cluster; give its --cluster HOST:PORT, or use torchrun")
    job.data()
    overrides = [part for setting in settings for part in ("--set", setting)]
    same = ["run", str(recipe.absolute()), "--run", str(job.folder.absolute()), *overrides]
    code = on_cluster(cluster, workers, same, job.folder / "tracking")
    if code not in (0, EXIT_GATE_FAILED):
        sys.exit(code)
    made: dict[str, Any] = read_json(job.folder / "result.json")
    return made


def _open(context: typer.Context, folder: Path) -> Any:
    from keeptune.run import Run

    return Run.open(folder, context.obj)


def _json(tree: Any) -> str:
    return json.dumps(tree, ensure_ascii=False, indent=1)


def _print_result(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        print(_json(result))
        return
    base, tuned, ratio = result["skill"]["base"], result["skill"]["tuned"], result["retained"]["ratio"]
    low, high = (100 * bound for bound in tuned["ci95"])
    print(
        f"skill    {base['accuracy']:.1%} → {tuned['accuracy']:.1%} (95 %: {low:.1f}–{high:.1f}), {tuned['n']} unseen"
    )
    for measure in ("f1", "em"):
        before, after = result["retained"]["base"][measure], result["retained"]["tuned"][measure]
        point, bound = ratio[measure]["point"], ratio[measure]["low95"]
        shown = f"{point:.3f} (at least {bound:.3f})" if point is not None else "no ratio: the base scored nothing"
        print(f"reading  {measure.upper()} {before:.1f} → {after:.1f}, ratio {shown}")
    parameters = result["parameters"]
    print(f"adapter  {parameters['trainable']:,} of {parameters['total']:,} parameters ({parameters['ratio']:.3%})")
    print(f"verdict  {result['gate']['verdict'].upper()}: {result['gate']['reason']}")
    print(f"report   {folder / 'report.html'}")
