"""Twenty steps of keeptune's optimizer against MindSpore's nn.AdamWeightDecay.

MindSpore needs numpy < 2 and a separate Python, which KEEPTUNE_MINDSPORE_PYTHON names. Otherwise the tests are skipped.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from keeptune.config.train import TrainSection
from keeptune.training.optimizer import create_optimizer, set_learning_rate
from keeptune.training.schedule import learning_rate

PYTHON = os.environ.get("KEEPTUNE_MINDSPORE_PYTHON")

pytestmark = pytest.mark.skipif(not PYTHON, reason="KEEPTUNE_MINDSPORE_PYTHON does not name a Python with mindspore")

PROGRAM = """
import sys
import mindspore as ms
import numpy as np
from mindspore import nn

inputs = np.load(sys.argv[1])
rates = [float(rate) for rate in inputs["rates"]]
parameter = ms.Parameter(ms.Tensor(inputs["start"]), name="w")
optimizer = nn.AdamWeightDecay([parameter], learning_rate=rates, beta1=0.9, beta2=0.95, eps=1e-8,
                               weight_decay=float(inputs["decay"]))
for gradient in inputs["gradients"]:
    optimizer((ms.Tensor(gradient),))
np.save(sys.argv[2], parameter.asnumpy())
"""


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_steps(decay: float, tmp_path: Path) -> None:
    settings = TrainSection(optimizer="mindformers", learning_rate=0.01, warmup_share=0.25, weight_decay=decay)
    draw = np.random.default_rng(0)
    start = draw.normal(size=(7, 5)).astype(np.float32)
    gradients = draw.normal(size=(20, 7, 5)).astype(np.float32) * 10.0 ** draw.integers(-6, 2, size=(20, 1, 1))
    gradients = gradients.astype(np.float32)
    rates = [learning_rate(step, len(gradients), settings) for step in range(len(gradients))]
    np.savez(tmp_path / "inputs.npz", start=start, gradients=gradients, rates=rates, decay=decay)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [str(PYTHON), str(program), str(tmp_path / "inputs.npz"), str(tmp_path / "expected.npy")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr

    parameter = nn.Parameter(torch.from_numpy(start.copy()))
    adam = create_optimizer(nn.ParameterList([parameter]), settings)
    for rate, gradient in zip(rates, gradients, strict=True):
        set_learning_rate(adam, rate)
        parameter.grad = torch.from_numpy(gradient)
        adam.step()
    actual, expected = parameter.detach().numpy(), np.load(tmp_path / "expected.npy")
    assert abs(actual - start).max() > 0.03
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
