"""The adapter: where it sits, how many parameters it has, and how it is scaled, saved and loaded.

Target modules can be named in three ways: a preset, Hugging Face module names, or the regular expression of a
MindFormers configuration. A choice that matches nothing is an error that lists what exists; nothing is ever
matched by accident, which is how contest entries came to train other layers than they reported.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, PeftType, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from keeptune.config.adapter import AdapterSection
from keeptune.errors import ModelError
from keeptune.files import read_json, write_json
from keeptune.models import adapter_metadata as adapter_card
from keeptune.models import pissa
from keeptune.models.adapter_scale import rescale
from keeptune.models.backend import MODULE_ALIASES
from keeptune.models.fused_lora import fuse
from keeptune.models.invocation import install, invocation_of_config, uninstall
from keeptune.models.peft_config import IA3_TARGETS, measure_magnitudes, peft_config
from keeptune.models.quantization import hidden_numbers

PRESETS: dict[str, tuple[str, ...]] = {
    "attention-qv": ("q_proj", "v_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
    "all-linear": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "ia3": IA3_TARGETS,
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many numbers are trained, and of how many."""

    trainable: int
    total: int

    @property
    def ratio(self) -> float:
        """Trained over all of the base model's, the contest's low-parameter ratio."""
        return self.trainable / self.total


def linear_names(model: nn.Module) -> list[str]:
    """The last names of the linear layers inside the model's blocks (the output layer is not one)."""
    names = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return sorted(names - {"lm_head"})


def target_modules(targets: str | Sequence[str], available: Sequence[str]) -> list[str]:
    """The module names to put LoRA on.

    `targets` is a preset, a name, several names, or a MindFormers regex such as '.*wq|.*wv', which is matched from
    the start of MindFormers' own names as MindFormers does.

    errors: ModelError listing what exists when a part of the choice matches nothing.
    """
    exists = f"the model has {', '.join(available)}; presets: {', '.join(PRESETS)}; or a MindFormers regex '.*wq|.*wv'"
    if isinstance(targets, str) and re.search(r"[*|^$\\()\[]", targets):
        chosen = [name for part in targets.split("|") for name in _matching_cells(part, available, exists)]
    else:
        wanted = PRESETS.get(targets, (targets,)) if isinstance(targets, str) else tuple(targets)
        missing = [name for name in wanted if name not in available]
        if missing or not wanted:
            raise ModelError(f"adapter.targets: {', '.join(missing) or 'empty'} matches no linear layer; {exists}")
        chosen = list(wanted)
    return sorted(set(chosen))


def _matching_cells(pattern: str, available: Sequence[str], exists: str) -> list[str]:
    try:
        # An empty part, as behind the last bar of '.*wq|', would match everything.
        matched = [n for n in available if pattern and re.match(pattern, MODULE_ALIASES.get(n, n))]
    except re.error as error:
        raise ModelError(f"adapter.targets: {pattern!r} is not a regular expression ({error}); {exists}") from None
    if not matched:
        cells = ", ".join(MODULE_ALIASES.get(name, name) for name in available)
        raise ModelError(f"adapter.targets: the part {pattern!r} matches none of {cells}; {exists}")
    return matched


def attach(model: Any, adapter: AdapterSection, seed: int, invocation: Sequence[int] = ()) -> PeftModel:
    """The model with a fresh adapter, which answers exactly as before, or with a copy of the one to go on from.

    Where tokens of an `invocation` are given, it acts from these on alone.

    errors: ModelError when the targets, the layers or the rank do not suit the family or the model, or when the
    adapter to go on from has another shape.
    """
    targets = target_modules(adapter.targets, linear_names(model))
    config = peft_config(model, adapter, targets, seed, invocation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tuned = get_peft_model(model, config)
        if adapter.family == "pissa":
            pissa.start(tuned)
    if adapter.family == "dora":
        measure_magnitudes(tuned)
    if adapter.start:
        _go_on_from(tuned, Path(adapter.start))
    fused = fuse(tuned)
    # PEFT's own forward would take PiSSA's principal part twice.
    if adapter.family == "pissa" and fused < len(_layers(tuned)):
        raise ModelError("adapter.family: pissa needs ordinary linear layers, which this model has not; choose lora")
    install(tuned, causal_model(tuned))
    return tuned


def detach(tuned: Any) -> Any:
    """The base model without its adapter."""
    uninstall(causal_model(tuned))
    return tuned.unload()


def stored_config(folder: Path) -> PeftConfig:
    """What an adapter to go on from says of itself. errors: ModelError when there is none."""
    try:
        stored: PeftConfig = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"adapter.start: {folder}: no adapter there to go on from ({error})") from None
    return stored


def _go_on_from(tuned: PeftModel, folder: Path) -> None:
    """Puts a stored adapter in place of the fresh one, as much of it as was handed over.

    errors: ModelError unless it is of the same shape, and of a family that can be taken in part where it has to be.
    """
    stored = stored_config(folder)
    own = tuned.peft_config["default"]
    for option in ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora"):
        if getattr(stored, option, None) != getattr(own, option, None):
            raise ModelError(
                f"adapter.start: {folder}: its {option} is {getattr(stored, option, None)}, and the recipe's "
                f"{getattr(own, option, None)}; make them alike in the adapter section"
            )
    before, after = (getattr(config, "alora_invocation_tokens", None) or [] for config in (stored, own))
    if before and before != after:
        raise ModelError(
            f"adapter.start: {folder}: it acts behind the tokens {before} only; set retain.activation: invoked "
            "with the same retain.invocation"
        )
    restore_adapter(tuned, folder)
    scale = adapter_card.load(folder).scale if (folder / adapter_card.FILE).is_file() else 1.0
    if scale == 1:
        return
    if own.peft_type != PeftType.LORA or getattr(own, "use_dora", False):
        raise ModelError(
            f"adapter.start: {folder}: it was handed over at scale {scale:g}, and only a LoRA can be gone on from in "
            "part; start from one of scale 1 (select.scales: [])"
        )
    for layer in _layers(tuned):
        layer.lora_B["default"].weight.data.mul_(scale)


def causal_model(model: Any) -> Any:
    """The causal model that an adapter was put into; a model without one is it itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def load_adapter(model: Any, folder: Path, trainable: bool = False) -> PeftModel:
    """The model with the adapter in `folder`. errors: ModelError when it is missing or does not fit."""
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no adapter_config.json there; give a folder in PEFT's layout")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error, below
            tuned = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder}: the adapter does not fit this model ({reason})") from None
    _require_loaded(tuned, folder)
    if invocation_of_config(tuned) and not trainable:
        _drop_dropout(tuned)
    fused = fuse(tuned)
    if invocation_of_config(tuned) and fused < len(_layers(tuned)):
        raise ModelError(f"{folder}: an adapter with an invocation must be plain LoRA without dropout to be used here")
    install(tuned, causal_model(tuned))
    return tuned


def _drop_dropout(tuned: nn.Module) -> None:
    """Dropout does nothing in evaluation mode, but keeps a layer from running the fused product."""
    for layer in _layers(tuned):
        for name in getattr(layer, "lora_dropout", {}):
            layer.lora_dropout[name] = nn.Identity()


def _require_loaded(tuned: nn.Module, folder: Path) -> None:
    """errors: ModelError unless the model holds exactly the adapter's tensors; PEFT only warns."""
    try:
        stored = load_file(folder / "adapter_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}/adapter_model.safetensors: cannot be read ({error})") from None
    own = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    differing = sorted(set(own) ^ set(stored))
    if not differing:
        differing = [name for name, own_ in own.items() if not torch.equal(own_.cpu(), stored[name].to(own_.dtype))]
    if differing:
        raise ModelError(
            f"{folder}: {len(differing)} adapter tensors are not in the model as stored, e.g. {differing[0]}; "
            "the adapter is of another model or of another configuration"
        )


def save_adapter(tuned: Any, folder: Path) -> None:
    """Writes the adapter into `folder`, in PEFT's layout, and what else is needed to go on training it."""
    if pissa.is_pissa(tuned):
        pissa.save(tuned, folder)
    else:
        tuned.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
    _put_in_order(folder / "adapter_config.json")


def _put_in_order(config: Path) -> None:
    """Names of modules, which PEFT keeps as sets, in one order, so that the same training leaves the same bytes."""
    settings = read_json(config)
    ordered = {key: sorted(own) for key, own in settings.items() if key.endswith("_modules") and isinstance(own, list)}
    write_json(config, settings | ordered)


def restore_adapter(tuned: Any, folder: Path) -> None:
    """Makes the adapter in training what it was when it was saved, bit for bit.

    errors: ModelError when the one in `folder` is another.
    """
    with_start = pissa.is_pissa(tuned)
    path = folder / (pissa.STATE_FILE if with_start else "adapter_model.safetensors")
    own = pissa.state(tuned) if with_start else get_peft_model_state_dict(tuned, save_embedding_layers=False)
    stored = load_file(path) if path.is_file() else {}
    if set(own) != set(stored) or any(own[name].shape != stored[name].shape for name in own):
        raise ModelError(f"{folder}: it holds another adapter than the recipe asks for")
    for name, tensor in stored.items():
        own[name].copy_(tensor)


def count(model: Any) -> Parameters:
    """Trained parameters, and all of the base model's (the adapter's own are not counted in the total)."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    added = sum(p.numel() for p in added_parameters(model).values())
    return Parameters(trainable, sum(p.numel() for p in model.parameters()) + hidden_numbers(model) - added)


def added_parameters(model: Any) -> dict[str, nn.Parameter]:
    """The adapter's own parameters by name, those included that it holds and does not train."""
    return {name: p for name, p in model.named_parameters() if f".{model.base_model.prefix}" in name}


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    """The base's own weights, which the adapter leaves alone, under their own names; tied ones once."""
    added = set(added_parameters(model))
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix).replace(".base_layer.", "."): own
        for name, own in model.named_parameters()
        if name not in added
    }


def set_scale(model: nn.Module, scale: float) -> None:
    """The adapter counts `scale` times what it was trained to."""
    for layer in _layers(model):
        rescale(layer, scale)


@contextmanager
def scaled(model: nn.Module, scale: float) -> Iterator[None]:
    """While it lasts, the adapter counts `scale` times; 0 is the base model, bit for bit."""
    layers = _layers(model)
    if scale == 0:
        for layer in layers:
            layer.enable_adapters(False)
    undo = [rescale(layer, scale) for layer in layers]
    try:
        yield
    finally:
        for take_back in undo:
            take_back()
        if scale == 0:
            for layer in layers:
                layer.enable_adapters(True)


def _layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
