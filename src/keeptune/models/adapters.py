"""Adapters: where they are attached, how many parameters they have, and how they are scaled, saved and loaded.

A recipe names target modules in one of three ways: a preset, Hugging Face module names, or the regular expression of a
MindFormers configuration (models/target_layers.py). A choice that matches nothing is an error that lists the available
modules. Contest entries have trained other layers than they reported because a pattern matched by accident.
"""

from __future__ import annotations

import math
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
from keeptune.files import read_json, stored_content, write_json
from keeptune.models import adapter_metadata, pissa
from keeptune.models.adapter_scale import rescale
from keeptune.models.fused_lora import fuse
from keeptune.models.invocation import install, invocation_of_config, uninstall
from keeptune.models.load import EMBEDDED, EMBEDDED_HUB_ID
from keeptune.models.model_files import check_adapter
from keeptune.models.peft_config import build_peft_config, reset_magnitudes
from keeptune.models.quantization import count_packed_weights
from keeptune.models.target_layers import layer_roles, target_modules
from keeptune.run_files.directory import ADAPTER_CONFIG, ADAPTER_WEIGHTS


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """The number of trainable parameters, and of all parameters of the base model."""

    trainable: int
    total: int

    @property
    def ratio(self) -> float:
        """Trainable over total parameters: the low-parameter ratio of the contest."""
        return self.trainable / self.total


def attach(model: Any, adapter: AdapterSection, seed: int, invocation: Sequence[int] = ()) -> PeftModel:
    """Attaches a new adapter, which does not change the model's answers, or a copy of the recipe's start adapter.

    Args:
        model: the base model.
        adapter: the `adapter` section of the recipe.
        seed: decides the initial weights.
        invocation: the tokens from which the adapter acts; empty if it always acts.

    Raises:
        ModelError: if the targets, the layers or the rank do not suit the family or the model, or if the start adapter
            has another shape.
    """
    targets = target_modules(adapter.targets, layer_roles(model))
    config = build_peft_config(model, adapter, targets, seed, invocation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tuned = get_peft_model(model, config)
        _require_named_targets(tuned, targets)
        if adapter.family == "pissa":
            pissa.initialize(tuned)
    reset_magnitudes(tuned)
    if adapter.start:
        _load_start_adapter(tuned, Path(adapter.start))
    fused = fuse(tuned)
    # PEFT's own forward would add PiSSA's principal part twice.
    if pissa.is_pissa(tuned) and fused < len(_layers(tuned)):
        raise ModelError("adapter.family: pissa needs plain linear layers, which this model lacks; choose lora")
    install(tuned, causal_model(tuned))
    return tuned


def _require_named_targets(tuned: PeftModel, targets: Sequence[str]) -> None:
    """Raises ModelError if PEFT put the adapter on other weights than the named layers.

    In some families, it takes the names of an MLP's layers for those of experts, and leaves out the layers themselves.
    """
    if getattr(tuned.peft_config["default"], "target_parameters", None):
        raise ModelError(
            f"adapter.targets: PEFT puts an adapter for {', '.join(targets)} on the experts of this model instead of "
            "its linear layers; set adapter.targets: attention"
        )


def detach(tuned: Any) -> Any:
    """Removes the adapter and returns the base model."""
    uninstall(causal_model(tuned))
    return tuned.unload()


def load_start_config(folder: Path) -> PeftConfig:
    """The PEFT configuration of a start adapter.

    Raises:
        ModelError: if the folder has none.
    """
    try:
        if not (folder / ADAPTER_CONFIG).is_file():  # PEFT would look for the name on the hub
            raise OSError(f"no {ADAPTER_CONFIG}")
        config: PeftConfig = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ModelError(f"adapter.start: {folder}: has no adapter to start from ({error})") from None
    return config


_EQUAL_OPTIONS = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
"""Options of PEFT in which a start adapter must equal the recipe's."""


def _load_start_adapter(tuned: PeftModel, folder: Path) -> None:
    """Replaces the new adapter by a stored one, at the scale that was selected for it.

    Raises:
        ModelError: if the stored adapter has another shape, or a family that cannot be scaled where it has to be.
    """
    stored = load_start_config(folder)
    config = tuned.peft_config["default"]
    grows = _can_grow(stored, config)
    for option in ("peft_type", *(() if grows else ("r", "lora_alpha")), *_EQUAL_OPTIONS):
        if getattr(stored, option, None) != getattr(config, option, None):
            raise ModelError(
                f"adapter.start: {folder}: has {option} {getattr(stored, option, None)}, but the recipe has "
                f"{getattr(config, option, None)}; make the adapter section equal to the stored adapter"
            )
    stored_tokens, tokens = (getattr(c, "alora_invocation_tokens", None) or [] for c in (stored, config))
    if stored_tokens and stored_tokens != tokens:
        raise ModelError(
            f"adapter.start: {folder}: acts only from the tokens {stored_tokens} on; set retain.activation: invoked "
            "with the same retain.invocation"
        )
    scale = stored_scale(folder)
    if grows:
        _restore_with_new_ranks(tuned, folder, scale * lora_scaling(stored) / lora_scaling(config))
        return
    restore_adapter(tuned, folder)
    if scale == 1:
        return
    if config.peft_type != PeftType.LORA or getattr(config, "use_dora", False):
        raise ModelError(
            f"adapter.start: {folder}: has scale {scale:g}, and only LoRA adapters can start at a scale other than 1; "
            "start from an adapter with scale 1 (select.scales: [])"
        )
    for layer in _layers(tuned):
        layer.lora_B["default"].weight.data.mul_(scale)


def stored_scale(folder: Path) -> float:
    """The scale that was selected for a stored adapter; 1 without keeptune.json."""
    return adapter_metadata.load(folder).scale if (folder / adapter_metadata.FILE).is_file() else 1.0


def start_ranks(adapter: AdapterSection) -> int:
    """The number of ranks that come from the recipe's start adapter; 0 without one."""
    return int(getattr(load_start_config(Path(adapter.start)), "r", 0)) if adapter.start else 0


def lora_scaling(config: Any) -> float:
    """The factor of B A: alpha / rank, for rslora alpha / √rank."""
    return float(config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r))


def _can_grow(stored: Any, config: Any) -> bool:
    """Whether both adapters are plain LoRA and the stored one has fewer ranks."""
    is_plain = all(c.peft_type == PeftType.LORA and not getattr(c, "use_dora", False) for c in (stored, config))
    return is_plain and bool(stored.r < config.r)


def _restore_with_new_ranks(tuned: PeftModel, folder: Path, factor: float) -> None:
    """Restores a LoRA adapter of fewer ranks. The new ranks keep their start: A random, B zero.

    Args:
        tuned: the model with a new adapter.
        folder: the stored adapter.
        factor: multiplies B, so that the product stays the same although the scaling of the adapter differs.

    Raises:
        ModelError: if the stored adapter has other layers or sizes.
    """
    current = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    path = folder / ADAPTER_WEIGHTS
    stored = load_file(path) if path.is_file() else {}
    parts = {}
    for name, tensor in current.items():
        old = stored.get(name)
        part = tensor if old is None else tensor[tuple(slice(size) for size in old.shape)]
        if old is None or part.shape != old.shape:
            break
        parts[name] = part
    if set(parts) != set(stored) or len(parts) != len(current):
        raise ModelError(f"adapter.start: {folder}: has other layers or sizes than the adapter in the recipe")
    for name, part in parts.items():
        part.copy_(stored[name] * factor if "lora_B" in name else stored[name])


def causal_model(model: Any) -> Any:
    """The causal model inside a PEFT model; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def base_model_name(folder: Path) -> str:
    """The base model that PEFT's configuration of an adapter names; the embedded model under its own name.

    Raises:
        ModelError: if it names none.
    """
    with stored_content(folder / ADAPTER_CONFIG):
        name = str(read_json(folder / ADAPTER_CONFIG)["base_model_name_or_path"] or "")
    if not name:
        raise ModelError(f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is empty; enter the base model")
    return EMBEDDED if name == EMBEDDED_HUB_ID else name


def load_adapter(model: Any, folder: Path, trainable: bool = False) -> PeftModel:
    """Attaches the adapter in `folder` to a model.

    Raises:
        ModelError: if the adapter is missing or does not fit the model.
    """
    check_adapter(folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # _require_loaded raises an error for these
            tuned = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except MemoryError:
        raise
    except Exception as error:  # PEFT and safetensors raise errors of any class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{folder}: the adapter does not fit this model ({reason})") from None
    _require_loaded(tuned, folder)
    if invocation_of_config(tuned) and not trainable:
        _remove_dropout(tuned)
    fused = fuse(tuned)
    if invocation_of_config(tuned) and fused < len(_layers(tuned)):
        raise ModelError(f"{folder}: an adapter with an invocation must be plain LoRA without dropout")
    install(tuned, causal_model(tuned))
    return tuned


def _remove_dropout(tuned: nn.Module) -> None:
    """Removes dropout layers. In evaluation they do nothing, but they prevent the fused product."""
    for layer in _layers(tuned):
        for name in getattr(layer, "lora_dropout", {}):
            layer.lora_dropout[name] = nn.Identity()


def _require_loaded(tuned: nn.Module, folder: Path) -> None:
    """Raises ModelError unless the model holds exactly the adapter's tensors; PEFT only warns."""
    try:
        stored = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / ADAPTER_WEIGHTS}: cannot be read ({error})") from None
    loaded = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    differing = sorted(set(loaded) ^ set(stored))
    if not differing:
        differing = [
            name for name, value in loaded.items() if not torch.equal(value.cpu(), stored[name].to(value.dtype))
        ]
    if differing:
        raise ModelError(
            f"{folder}: {len(differing)} adapter tensors differ between file and model, e.g. {differing[0]}; "
            "the adapter belongs to another model or to another configuration"
        )


def save_adapter(tuned: Any, folder: Path) -> None:
    """Writes the adapter into `folder` in PEFT's layout, and all that resuming its training needs."""
    if pissa.is_pissa(tuned):
        pissa.save(tuned, folder)
    else:
        tuned.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
    _sort_module_names(folder / ADAPTER_CONFIG)


def _sort_module_names(config: Path) -> None:
    """Sorts the lists of module names, which PEFT keeps as sets, so that equal trainings write equal bytes."""
    options = read_json(config)
    ordered = {key: sorted(v) for key, v in options.items() if key.endswith("_modules") and isinstance(v, list)}
    write_json(config, options | ordered)


def restore_adapter(tuned: Any, folder: Path) -> None:
    """Restores a saved adapter in training, bit for bit.

    Raises:
        ModelError: if the one in `folder` has other tensors.
    """
    is_pissa = pissa.is_pissa(tuned)
    path = folder / (pissa.STATE_FILE if is_pissa else ADAPTER_WEIGHTS)
    current = pissa.state(tuned) if is_pissa else get_peft_model_state_dict(tuned, save_embedding_layers=False)
    stored = load_file(path) if path.is_file() else {}
    if set(current) != set(stored) or any(current[name].shape != stored[name].shape for name in current):
        raise ModelError(f"{folder}: holds another adapter than the one in the recipe")
    for name, tensor in stored.items():
        current[name].copy_(tensor)


def count_parameters(model: Any) -> ParameterCount:
    """The number of trainable parameters, and of the base model's parameters without those of the adapter."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    added = sum(p.numel() for p in added_parameters(model).values())
    return ParameterCount(trainable, sum(p.numel() for p in model.parameters()) + count_packed_weights(model) - added)


def added_parameters(model: Any) -> dict[str, nn.Parameter]:
    """The adapter's parameters by name, including those that are frozen."""
    return {name: p for name, p in model.named_parameters() if f".{model.base_model.prefix}" in name}


def base_weights(model: Any) -> dict[str, torch.Tensor]:
    """The base model's weights under the names that they have without an adapter. Tied weights appear once."""
    added = set(added_parameters(model))
    prefix = "base_model.model."
    return {
        name.removeprefix(prefix).replace(".base_layer.", "."): weight
        for name, weight in model.named_parameters()
        if name not in added
    }


def set_scale(model: nn.Module, scale: float) -> None:
    """Multiplies the change that the adapter makes by `scale`."""
    for layer in _layers(model):
        rescale(layer, scale)


@contextmanager
def scaled(model: nn.Module, scale: float) -> Iterator[None]:
    """Temporarily multiplies the change that the adapter makes. Scale 0 is the base model, bit for bit."""
    layers = _layers(model)
    if scale == 0:
        for layer in layers:
            layer.enable_adapters(False)
    undo_actions = [rescale(layer, scale) for layer in layers]
    try:
        yield
    finally:
        for undo in undo_actions:
            undo()
        if scale == 0:
            for layer in layers:
                layer.enable_adapters(True)


def _layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
