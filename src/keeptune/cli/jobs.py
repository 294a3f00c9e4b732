"""The verbs that plan a run, make it, whole or stage by stage, and make many."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from keeptune.cli.options import AsJson, ClusterAddress, Processes, RecipeFile, RunFolder, Settings, json_text
from keeptune.config import recipe as recipes
from keeptune.config.recipe import Recipe
from keeptune.errors import EXIT_GATE_FAILED, RecipeError


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
    _end(result, job.directory.root, as_json)


def recover(
    context: typer.Context,
    folder: RunFolder,
    out: Annotated[Path | None, typer.Option("--run", help="new run directory; default: RUN-recovered")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="useful tokens to train on, half of them replayed")] = 300_000,
    settings: Settings = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """A new run that takes back what a run lost. The same command again resumes."""
    from keeptune.pipeline.recover import recovery_recipe

    job = _create(
        context,
        out or Path(f"{os.path.normpath(folder.absolute())}-recovered"),
        recovery_recipe(folder, tokens, tuple(settings)),
        0,
        None,
    )
    _end(job.all(), job.directory.root, as_json)


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
    from keeptune.config.search_space import parse
    from keeptune.pipeline.sweep import sweep as search
    from keeptune.pipeline.sweep import text

    varied, overrides = tuple(map(parse, vary)), tuple(settings)
    place = folder or Path("runs") / f"{recipes.load(recipe, overrides).name}-sweep"
    made = search(recipe, overrides, varied, trials, place, context.obj)
    print(json_text(made) if as_json else f"{text(made)}\n{place / 'sweep.html'}")


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
    from keeptune.data.workers import WorkerConfig
    from keeptune.pipeline.plan import plan as make_plan
    from keeptune.pipeline.plan import text

    made = make_plan(loaded, context.obj, WorkerConfig(processes, cluster))
    print(json_text(made) if as_json else text(made))


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
    print(job.directory.data_card)


def train(context: typer.Context, folder: RunFolder) -> None:
    """The training stage of a run; resumes from its newest checkpoint."""
    _open(context, folder).train()


def select(context: typer.Context, folder: RunFolder) -> None:
    """Chooses the checkpoint to hand over, on dev questions alone."""
    _open(context, folder).select()


def report(context: typer.Context, folder: RunFolder, as_json: AsJson = False) -> None:
    """Makes result.json, report.html and report.md anew from the stored answers."""
    _print_result(_open(context, folder).report(), folder, as_json)


def _create(context: typer.Context, folder: Path, recipe: Recipe, processes: int, cluster: str | None) -> Any:
    from keeptune.data.workers import WorkerConfig
    from keeptune.pipeline.run import Run

    return Run.create(folder, recipe, context.obj, WorkerConfig(processes, cluster))


def _on_workers(job: Any, recipe: Path, settings: list[str], cluster: str | None, workers: int) -> dict[str, Any]:
    """What a run comes to whose later stages are a job on a cluster; its data is made first, by the same machines."""
    from keeptune.files import read_json
    from keeptune.training.ray_cluster import on_cluster

    if cluster is None:
        raise RecipeError("--workers are those of a Ray cluster; give its --cluster HOST:PORT, or use torchrun")
    job.data()
    overrides = [part for setting in settings for part in ("--set", setting)]
    same = ["run", str(recipe.absolute()), "--run", str(job.directory.root.absolute()), *overrides]
    code = on_cluster(cluster, workers, same, job.directory.tracking)
    if code not in (0, EXIT_GATE_FAILED):
        sys.exit(code)
    made: dict[str, Any] = read_json(job.directory.result)
    return made


def _open(context: typer.Context, folder: Path) -> Any:
    from keeptune.pipeline.run import Run

    return Run.open(folder, context.obj)


def _end(result: dict[str, Any] | None, folder: Path, as_json: bool) -> None:
    """Prints the result of a run, and exits with the code of its verdict."""
    if result is None:  # this process has only helped to train
        return
    _print_result(result, folder, as_json)
    if result["gate"]["verdict"] == "fail":
        sys.exit(EXIT_GATE_FAILED)


def _print_result(result: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        print(json_text(result))
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
    from keeptune.evaluation.verdict_text import ability_lines

    for line in ability_lines(result["abilities"]):
        print(line)
    parameters = result["parameters"]
    print(f"adapter  {parameters['trainable']:,} of {parameters['total']:,} parameters ({parameters['ratio']:.3%})")
    scope = " (reading alone, as the contest decides)" if result["gate"]["policy"] == "contest" else ""
    print(f"verdict  {result['gate']['verdict'].upper()}{scope}: {result['gate']['reason']}")
    print(f"report   {folder / 'report.html'}")
