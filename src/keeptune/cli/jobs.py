"""The verbs that plan a run, carry it out (all stages or one), recover from a failed gate, and search settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keeptune.cli.options import AsJson, ClusterAddress, Processes, RecipeFile, RunFolder, Settings, json_text
from keeptune.cli.terminal import show
from keeptune.errors import EXIT_GATE_FAILED, RecipeError

if TYPE_CHECKING:  # importing it loads pydantic, which `keeptune --help` does not need
    from keeptune.config.recipe import Recipe

RunOption = Annotated[Path | None, typer.Option("--run", help="run directory; default: runs/NAME")]


def run(
    context: typer.Context,
    recipe: RecipeFile,
    folder: RunOption = None,
    settings: Settings = [],  # noqa: B006  (typer copies it)
    processes: Processes = 0,
    cluster: ClusterAddress = None,
    workers: Annotated[int, typer.Option(min=0, help="with --cluster: number of Ray workers that train")] = 0,
    as_json: AsJson = False,
) -> None:
    """Carry out all stages of a recipe: data, train, select, evaluate, report.

    Repeat the command to resume an interrupted run. Exit code 4: the gate failed.
    """
    loaded = _load_recipe(recipe, settings)
    job = _create(context, folder or Path("runs") / loaded.name, loaded, processes, cluster)
    result = _run_on_cluster(job, recipe, settings, cluster, workers) if workers else job.all()
    _finish(result, job.directory.root, as_json)


def recover(
    context: typer.Context,
    folder: RunFolder,
    out: Annotated[Path | None, typer.Option("--run", help="new run directory; default: RUN-recovered")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="non-padding tokens to train on; half are replay")] = 300_000,
    settings: Settings = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Restore the abilities that a run lost, in a new run that continues from its adapter.

    Repeat the command to resume. Exit code 4: the gate failed again.
    """
    from keeptune.pipeline.recover import recovery_recipe

    recipe = recovery_recipe(folder, tokens, tuple(settings))
    job = _create(context, out or Path(f"{os.path.normpath(folder.absolute())}-recovered"), recipe, 0, None)
    _finish(job.all(), job.directory.root, as_json)


def sweep(
    context: typer.Context,
    recipe: RecipeFile,
    vary: Annotated[
        list[str],
        typer.Option(metavar="KEY=LOW..HIGH", help="recipe value to vary, or KEY=X,Y,… for a list; repeatable"),
    ],
    trials: Annotated[int, typer.Option(min=1, help="total number of trials; raise it later to add trials")] = 20,
    folder: Annotated[Path | None, typer.Option("--run", help="sweep directory; default: runs/NAME-sweep")] = None,
    settings: Settings = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Search recipe settings for skill, retained reading and few parameters.

    Repeat the command to resume.
    """
    from keeptune.config.search_space import parse
    from keeptune.pipeline.sweep import sweep as search
    from keeptune.pipeline.sweep import text

    varied, overrides = tuple(map(parse, vary)), tuple(settings)
    sweep_folder = folder or Path("runs") / f"{_load_recipe(recipe, settings).name}-sweep"
    result = search(recipe, overrides, varied, trials, sweep_folder, context.obj)
    show(json_text(result) if as_json else f"{text(result)}\n{sweep_folder / 'sweep.html'}")


def plan(
    context: typer.Context,
    recipe: RecipeFile,
    settings: Settings = [],  # noqa: B006
    processes: Processes = 0,
    cluster: ClusterAddress = None,
    as_json: AsJson = False,
) -> None:
    """Estimate a recipe's rows, tokens, trainable parameters, time and memory without training."""
    loaded = _load_recipe(recipe, settings)
    from keeptune.data.workers import WorkerConfig
    from keeptune.pipeline.plan import plan as make_plan
    from keeptune.pipeline.plan import text

    estimate = make_plan(loaded, context.obj, WorkerConfig(processes, cluster))
    show(json_text(estimate) if as_json else text(estimate))


def data(
    context: typer.Context,
    recipe: RecipeFile,
    folder: RunOption = None,
    settings: Settings = [],  # noqa: B006
    processes: Processes = 0,
    cluster: ClusterAddress = None,
) -> None:
    """Carry out only the data stage of a recipe."""
    loaded = _load_recipe(recipe, settings)
    job = _create(context, folder or Path("runs") / loaded.name, loaded, processes, cluster)
    job.data()
    show(job.directory.data_card)


def train(context: typer.Context, folder: RunFolder) -> None:
    """Carry out only the training stage of a run, from its newest checkpoint if there is one."""
    _open(context, folder).train()


def select(context: typer.Context, folder: RunFolder) -> None:
    """Select the checkpoint and the adapter scale with the best score on the dev questions."""
    _open(context, folder).select()


def report(context: typer.Context, folder: RunFolder, as_json: AsJson = False) -> None:
    """Write result.json, report.html and report.md from a run's answers; run the stages before it where needed."""
    _print_result(_open(context, folder).report(), folder, as_json)


def _load_recipe(path: Path, settings: list[str]) -> Recipe:
    from keeptune.config import recipe as recipes

    return recipes.load(path, tuple(settings))


def _create(context: typer.Context, folder: Path, recipe: Recipe, processes: int, cluster: str | None) -> Any:
    from keeptune.data.workers import WorkerConfig
    from keeptune.pipeline.run import Run

    return Run.create(folder, recipe, context.obj, WorkerConfig(processes, cluster))


def _open(context: typer.Context, folder: Path) -> Any:
    from keeptune.pipeline.run import Run

    return Run.open(folder, context.obj)


def _run_on_cluster(job: Any, recipe: Path, settings: list[str], cluster: str | None, workers: int) -> dict[str, Any]:
    """Carries out the data stage, submits the later stages as a job to a Ray cluster, and returns the result."""
    from keeptune.files import read_json
    from keeptune.training.ray_cluster import run_on_cluster

    if cluster is None:
        raise RecipeError("--workers requires --cluster HOST:PORT; without Ray, start keeptune with torchrun")
    job.data()
    overrides = [part for setting in settings for part in ("--set", setting)]
    command = ["run", str(recipe.absolute()), "--run", str(job.directory.root.absolute()), *overrides]
    code = run_on_cluster(cluster, workers, command, job.directory.tracking)
    if code not in (0, EXIT_GATE_FAILED):
        sys.exit(code)
    result: dict[str, Any] = read_json(job.directory.result)
    return result


def _finish(result: dict[str, Any] | None, folder: Path, as_json: bool) -> None:
    """Prints the result of a run, and exits with code 4 if the gate failed."""
    if result is None:  # a worker rank: rank 0 prints
        return
    _print_result(result, folder, as_json)
    if result["gate"]["verdict"] == "fail":
        sys.exit(EXIT_GATE_FAILED)


def _print_result(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        show(json_text(result))
        return
    base, tuned, ratio = result["skill"]["base"], result["skill"]["tuned"], result["retained"]["ratio"]
    low, high = (100 * bound for bound in tuned["ci95"])
    show(
        f"skill    {base['accuracy']:.1%} → {tuned['accuracy']:.1%} "
        f"(95 % interval: {low:.1f}–{high:.1f}), {tuned['n']} held-out questions"
    )
    for metric in ("f1", "em"):
        before, after = result["retained"]["base"][metric], result["retained"]["tuned"][metric]
        point, bound = ratio[metric]["point"], ratio[metric]["low95"]
        shown = f"{point:.3f} (95 % lower bound: {bound:.3f})" if point is not None else "none: the base scored 0"
        show(f"reading  {metric.upper()} {before:.1f} → {after:.1f}, tuned / base {shown}")
    from keeptune.evaluation.verdict_text import ability_lines

    for line in ability_lines(result["abilities"]):
        show(line)
    parameters = result["parameters"]
    show(f"adapter  {parameters['trainable']:,} of {parameters['total']:,} parameters ({parameters['ratio']:.3%})")
    scope = " (contest rule: reading alone)" if result["gate"]["policy"] == "contest" else ""
    show(f"verdict  {result['gate']['verdict'].upper()}{scope}: {result['gate']['reason']}")
    show(f"report   {folder / 'report.html'}")
