"""The section `model` of a recipe: the base model and its number format."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from keeptune.config.section import Section

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
"""Number format of the frozen base model. The adapter and its optimizer state are float32.

float16 is for accelerators without bfloat16, such as Ascend 910A, V100 and T4.
"""

Quantization = Literal["int8", "nf4", "fp8"]
"""Storage format of the frozen linear weights; see keeptune.models.quantization."""


class ModelSection(Section):
    """The base model and the number format in which it computes."""

    name: str = Field(
        "smollm2-135m",
        description="local folder, MindSpore `.ckpt` file, Hugging Face id, or `smollm2-135m` (the embedded model)",
    )
    dtype: Dtype = Field(
        "auto",
        description="number format of the base model; `auto` is bfloat16 if the device supports it natively, "
        "else float32",
    )
    quantization: Quantization | None = Field(
        None,
        description="storage format of the frozen linear weights: 8-bit `int8`, 4-bit `nf4`, or `fp8` (Hopper GPUs); "
        "null keeps `model.dtype`",
    )
