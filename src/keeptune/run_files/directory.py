"""The layout of a run directory: the path of every file that a run writes, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's names for the two files of an adapter."""

ADAPTER_METADATA = "keeptune.json"

ARTEFACT = "artefact.json"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths inside the run directory `root`; which files exist depends on the stages that are complete."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The complete recipe, defaults included."""
        return self.root / "recipe.yaml"

    @property
    def inputs(self) -> Path:
        """The hashes of the input files that the data card does not list."""
        return self.root / "inputs.json"

    @property
    def event_log(self) -> Path:
        """One JSON object per event: stages, training steps, dev scores."""
        return self.root / "log.jsonl"

    @property
    def manifest(self) -> Path:
        """Versions, machine, and the hashes of all inputs and outputs."""
        return self.root / "manifest.json"

    @property
    def result(self) -> Path:
        """Every figure of the run."""
        return self.root / "result.json"

    @property
    def report_html(self) -> Path:
        """The report as one self-contained page."""
        return self.root / "report.html"

    @property
    def report_markdown(self) -> Path:
        """The same figures in Markdown."""
        return self.root / "report.md"

    @property
    def data(self) -> Path:
        """The folder of the data stage."""
        return self.root / "data"

    @property
    def data_card(self) -> Path:
        """Accounts for every row; written last, so its presence means that the data stage is complete."""
        return self.data / "card.json"

    @property
    def rejected_rows(self) -> Path:
        """The rows that were rejected, each with its reason."""
        return self.data / "rejected.jsonl"

    def examples(self, split: str) -> Path:
        """The selected rows of `train`, `dev` or `test`."""
        return self.data / f"{split}.parquet"

    def replayed_answers(self, source: str) -> Path:
        """The answers that a model wrote for the replay source `self` or `on_policy`."""
        return self.replay / f"{source}.jsonl"

    @property
    def replay(self) -> Path:
        """The folder of answers that a model wrote for replay."""
        return self.root / "replay"

    @property
    def checkpoints(self) -> Path:
        """The folder of training checkpoints, `step-N` each."""
        return self.root / "checkpoints"

    @property
    def trained(self) -> Path:
        """The number of steps taken; its presence means that the training stage is complete."""
        return self.checkpoints / "trained.json"

    @property
    def tracking(self) -> Path:
        """The folder that experiment trackers write to."""
        return self.root / "tracking"

    @property
    def dev(self) -> Path:
        """The folder of the base model's answers to dev items of the retention suite."""
        return self.root / "dev"

    @property
    def adapter(self) -> Path:
        """The folder of the selected adapter, in PEFT's layout, with keeptune.json beside it."""
        return self.root / "adapter"

    @property
    def adapter_config(self) -> Path:
        """PEFT's configuration of the adapter."""
        return self.adapter / ADAPTER_CONFIG

    @property
    def adapter_weights(self) -> Path:
        """The adapter's weights."""
        return self.adapter / ADAPTER_WEIGHTS

    @property
    def adapter_metadata(self) -> Path:
        """The adapter's prompt, base model, token budgets and scale."""
        return self.adapter / ADAPTER_METADATA

    @property
    def chosen(self) -> Path:
        """The selected checkpoint and scale, and all candidates with their dev scores."""
        return self.adapter / "chosen.json"

    @property
    def scores(self) -> Path:
        """The folder of per-item records, from which every figure is computed."""
        return self.root / "scores"

    def records(self, measurement: str, variant: str) -> Path:
        """The records of one measurement (`skill`, `retained`, `tasks`, …) for `base` or `tuned`."""
        return self.scores / f"{measurement}-{variant}.jsonl"

    @property
    def answer_divergence(self) -> Path:
        """KL(tuned ‖ base) on the tuned model's answers, per prompt."""
        return self.records("divergence", "tuned")

    @property
    def practised(self) -> Path:
        """The abilities that training practised, each with the reason."""
        return self.scores / "practised.json"

    @property
    def artefacts(self) -> Path:
        """The folder with a subfolder for each artefact that `keeptune gate --artefact` judged."""
        return self.root / "artefacts"

    def artefact(self, name: str) -> Path:
        """The figures of one artefact. Its answers are beside it."""
        return self.artefacts / name / ARTEFACT

    def artefact_files(self) -> list[Path]:
        """The figures of all artefacts, in the order of their names."""
        return sorted(self.artefacts.glob(f"*/{ARTEFACT}"))

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a run."""
        return self.recipe.is_file()

    @property
    def has_data(self) -> bool:
        """Whether the data stage is complete."""
        return self.data_card.is_file()

    @property
    def has_rows(self) -> bool:
        """Whether the data stage is complete and none of its files was deleted since."""
        files = (self.data_card, self.rejected_rows, *(self.examples(split) for split in ("train", "dev", "test")))
        return all(path.is_file() for path in files)

    @property
    def has_trained(self) -> bool:
        """Whether the training stage is complete. With a selected adapter the checkpoints are not needed any more."""
        return self.trained.is_file() or self.has_adapter

    @property
    def has_adapter(self) -> bool:
        """Whether the selection stage is complete."""
        files = (self.adapter_config, self.adapter_weights, self.adapter_metadata, self.chosen)
        return all(path.is_file() for path in files)

    def relative(self, path: Path) -> str:
        """The path from the root, with forward slashes: how the manifest names files."""
        return path.relative_to(self.root).as_posix()
