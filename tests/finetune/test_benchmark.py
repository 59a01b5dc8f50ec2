"""The benchmark of training: what it counts, and that a cut run keeps what it had."""

import json

import numpy as np
import pytest

from benchmarks import training
from benchmarks.flops import nominal_peak, step_flops
from benchmarks.training_runs import Clock, Run, attempt, batch_for, drawn, matmul_ceiling
from benchmarks.training_shapes import LLAMA_3_8B, small
from finetune.tiny import LLAMA, MISTRAL, ROBERTA, config
from jaxtask.finetune.models.attention import Places, may_see


@pytest.mark.parametrize("fields", [LLAMA, MISTRAL, ROBERTA])
def test_operations_are_counted(fields):
    shape = config(fields)
    segments = np.array([[1] * 9 + [2] * 4 + [0] * 3, [1] * 16])
    names = tuple(shape.linears)
    chosen = names[:2]
    flops = step_flops(shape, 3, tuple(n.rsplit(".", 1)[-1] for n in chosen), segments, 11, True)
    # One token after another, one matrix after another.
    forward = backward = recomputed = 0
    positions = np.concatenate([np.arange(9), np.arange(4), np.zeros(3), np.arange(16)])
    places = Places(positions.reshape(2, 16).astype(int), segments)
    text = fields is not ROBERTA
    window = shape.window if text else None
    seen = np.asarray(may_see(places, places, text, window)) & (segments > 0)[:, :, None]
    width = shape.heads * shape.head_width if text else shape.width
    for _ in range(shape.layers):
        for module, (d_in, d_out) in shape.linears.items():
            for _ in range(np.count_nonzero(segments)):
                low = 2 * 3 * (d_in + d_out) if module in chosen else 0
                forward += 2 * d_in * d_out + low
                backward += 2 * d_in * d_out + 2 * low
                recomputed += 2 * d_in * d_out + low
        pairs = seen.sum()
        forward += 4 * pairs * width
        backward += 8 * pairs * width
        recomputed += 4 * pairs * width
    if text:
        head = 11 * 2 * shape.width * shape.vocabulary
        forward, backward, recomputed = forward + head, backward + head, recomputed + head
    assert flops == (forward, backward, recomputed)
    assert flops.hardware == forward + backward + recomputed


def test_operations_of_llama_3_8b():
    """Near 4 N a token for the model and 6 N with remat, N without the embedding, and attention."""
    shape = config(LLAMA_3_8B)
    flops = step_flops(shape, 16, ("all-linear",), np.ones((1, 2048), int), 2048, True)
    weights = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 4096 * 128256
    assert 1 < flops.model / 2048 / (4 * weights) < 1.07
    assert 1 < flops.hardware / 2048 / (6 * weights) < 1.07


def test_peaks_are_of_known_devices():
    assert nominal_peak("NVIDIA H200") == nominal_peak("NVIDIA H100 80GB HBM3") > 9e14
    assert nominal_peak("cpu") is None


def test_batches_are_full_of_packed_documents():
    run = Run("x", 2, ("q_proj",), rows=2, places=64, documents=4, answer=0.25, tasks=3)
    batch = batch_for(run, config(LLAMA))
    assert batch.tokens.shape == (3, 2, 64)
    assert np.unique(batch.segments, return_counts=True)[1].tolist() == [96] * 4
    assert batch.positions.max() == 15
    assert batch.weights.sum() == 3 * 2 * 4 * 4


@pytest.mark.slow
def test_a_run_is_measured():
    model = drawn(config(LLAMA), "float32")
    run = Run("x", 2, ("all-linear",), rows=1, places=16, documents=2, steps=2)
    row = attempt(run, model, 1e12, Clock(100))
    json.dumps(row)
    assert row["steps_timed"] == 2
    assert row["losses_finite"]
    assert row["loss_last"] < row["loss_first"]
    assert row["tokens_per_step"] == 16
    np.testing.assert_allclose(row["tokens_per_second"] * row["seconds_per_step"], 16)
    share = row["model_flops_per_step"] / row["seconds_per_step"] / 1e12
    np.testing.assert_allclose(row["mfu_of_measured"], share)
    # What cannot be done costs nothing else.
    row = attempt(Run("y", 2, ("q_proj",), 1, 16, attention="cudnn"), model, 1e12, Clock(100))
    assert row["failed"].startswith("TrainingError: attention 'cudnn' needs")


def test_rows_are_written_as_they_come(tmp_path):
    file = tmp_path / "results" / "training.json"

    def rows(clock):
        yield {"n": 1}
        assert json.loads(file.read_text())["sections"]["parity"][0]["n"] == 1
        raise KeyboardInterrupt

    report = {"sections": {}}
    with pytest.raises(KeyboardInterrupt):
        training._measure("parity", rows, report, file)
    assert [row["n"] for row in json.loads(file.read_text())["sections"]["parity"]] == [1]
    assert [p.name for p in file.parent.iterdir()] == ["training.json"]


def test_the_ceiling_is_of_the_fastest_shape():
    found = matmul_ceiling(small().products, 1)
    assert found["flops_per_second"] == pytest.approx(1e12 * max(found["teraflops"].values()))
