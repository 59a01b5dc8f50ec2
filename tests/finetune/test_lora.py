"""LoRA parameters: which modules, how large, their start; learning rates."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from finetune.tiny import BERT, LLAMA, ROBERTA, config
from jaxtask.errors import TrainingError
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.lora import (
    init_head,
    init_lora,
    ranks,
    scales,
    task_seeds,
)
from jaxtask.finetune.training.schedule import KINDS, Schedule, learning_rate

CONFIG = config(LLAMA)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("q_proj", "v_proj"), {"self_attn.q_proj": 3, "self_attn.v_proj": 3}),
        (["self_attn.k_proj"], {"self_attn.k_proj": 3}),
        (["model.layers.1.mlp.up_proj"], {"mlp.up_proj": 1}),
        ("all-linear", dict.fromkeys(CONFIG.linears, 3)),
        (r".*layers\.[02]\..*_proj", dict.fromkeys(CONFIG.linears, 2)),
        (r"model\.layers\.0\.mlp\.(up|gate)_proj", {"mlp.gate_proj": 1, "mlp.up_proj": 1}),
    ],
)
def test_targets(targets, expected):
    found = ranks(Lora(r=4, targets=targets), CONFIG)
    assert {m: np.count_nonzero(row == 4) for m, row in found.items()} == expected
    assert all(set(row) <= {0, 4} for row in found.values())


def test_targets_of_an_encoder():
    """Names end at a dot, as in PEFT: "dense" is three layers, "output.dense" two."""
    bert = config(BERT)
    assert len(ranks(Lora(targets=["dense"]), bert)) == 3
    assert len(ranks(Lora(targets=["output.dense"]), bert)) == 2
    assert list(ranks(Lora(targets=[r"query"]), config(ROBERTA))) == ["attention.self.query"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["c_attn"], "'c_attn' matches no module; .* self_attn.q_proj, .* mlp.down_proj"),
        (["q_proj", "proj"], "'proj' matches no module"),
        (["lm_head"], "'lm_head' matches no module"),
        ("q_proj", "'q_proj' matches no module; layer 0 of this llama model is 'model.layers.0'"),
        ("(", "is not a regular expression"),
    ],
)
def test_targets_that_match_nothing(targets, message):
    with pytest.raises(TrainingError, match=message):
        ranks(Lora(targets=targets), CONFIG)


def test_patterns():
    """The first match wins, over the end of the name."""
    spec = Lora(
        r=4,
        alpha=8,
        rank_pattern={r"layers\.1\..*": 2, "q_proj": 6},
        alpha_pattern={"v_proj": 3, r"^model\.layers\.2\..*": 30},
    )
    found = ranks(spec, CONFIG)
    assert found["self_attn.q_proj"].tolist() == [6, 2, 6]
    assert found["self_attn.v_proj"].tolist() == [4, 2, 4]
    scale = scales([spec], CONFIG)
    np.testing.assert_allclose(scale["self_attn.q_proj"][:, 0], [8 / 6, 8 / 2, 30 / 6], rtol=1e-6)
    np.testing.assert_allclose(scale["self_attn.v_proj"][:, 0], [3 / 4, 3 / 2, 3 / 4], rtol=1e-6)


def test_scales_of_several_tasks():
    specs = [Lora(r=4, alpha=8, targets=["q_proj"]), Lora(r=3, alpha=8, rslora=True)]
    scale = scales(specs, CONFIG)
    np.testing.assert_allclose(scale["self_attn.q_proj"], [[2, 8 / math.sqrt(3)]] * 3, rtol=1e-6)
    np.testing.assert_allclose(scale["self_attn.v_proj"], [[0, 8 / math.sqrt(3)]] * 3, rtol=1e-6)


def test_start():
    specs = [Lora(r=4, targets="all-linear"), Lora(r=2, targets=["q_proj"], seed=1)]
    made = init_lora(specs, CONFIG)
    assert made["mlp.down_proj"]["A"].shape == (3, 2, 40, 4)
    assert made["mlp.down_proj"]["B"].shape == (3, 2, 4, 24)
    for own in made.values():
        A = np.asarray(own["A"])
        assert A.dtype == own["B"].dtype == np.float32
        assert not np.asarray(own["B"]).any()
        bound = 1 / math.sqrt(A.shape[2])
        live = A[:, 0]
        assert 0.95 * bound < np.abs(live).max() <= bound
        assert abs(live.std() / (bound / math.sqrt(3)) - 1) < 0.15  # uniform
        assert len({layer.tobytes() for layer in live}) == 3
    q = np.asarray(made["self_attn.q_proj"]["A"])
    assert q[:, 1, :, :2].all()
    assert not q[:, 1, :, 2:].any()
    assert not np.asarray(made["mlp.up_proj"]["A"])[:, 1].any()


def test_a_task_starts_alike_whatever_is_beside_it():
    """A depends on the seed and the name only; a smaller rank is the first part of a larger."""
    alone = init_lora([Lora(r=2, seed=5)], CONFIG)
    beside = init_lora([Lora(r=6, targets="all-linear"), Lora(r=2, seed=5)], CONFIG)
    wider = init_lora([Lora(r=6, seed=5)], CONFIG)
    for module in alone:
        A = np.asarray(alone[module]["A"])[:, 0]
        np.testing.assert_array_equal(A, np.asarray(beside[module]["A"])[:, 1, :, :2])
        np.testing.assert_array_equal(A, np.asarray(wider[module]["A"])[:, 0, :, :2])


def test_seeds():
    assert task_seeds(7, ["ner", "sum"], shared=True) == [7, 7]
    own = task_seeds(7, ["ner", "sum"], shared=False)
    assert len({7, *own}) == 3
    assert own == task_seeds(7, ["ner", "sum"], shared=False)
    assert own[1:] == task_seeds(7, ["sum"], shared=False)


@pytest.mark.parametrize("fields", [BERT, ROBERTA], ids=["bert", "roberta"])
def test_heads(fields):
    specs, classes = [Lora(seed=1), Lora(seed=2)], [2, 5]
    head = init_head(specs, config(fields), classes)
    last = np.asarray(list(head.values())[-1]["kernel"])
    assert last.shape == (2, 24, 5)
    assert last[0, :, :2].all()
    assert not last[0, :, 2:].any()
    assert abs(last[1].std() - 0.02) < 0.005
    start = {
        name: {"kernel": jnp.ones(own["kernel"].shape[1:]), "bias": jnp.ones(own["bias"].shape[1:])}
        for name, own in head.items()
    }
    copied = init_head([specs[1]], config(fields), [5], [start])
    assert all((np.asarray(x) == 1).all() for own in copied.values() for x in own.values())
    with pytest.raises(TrainingError, match=r"has shape \(24, 5\) \(in, out\), expected \(24, 3\)"):
        init_head([specs[1]], config(fields), [3], [start])


def test_schedules_are_optax(within):
    peak, warmup, total = 3e-4, 5, 40
    rising = optax.linear_schedule(0, peak, warmup)
    linear = optax.linear_schedule(peak, 0, total - warmup)
    known = {
        "constant": optax.warmup_constant_schedule(0, peak, warmup),
        "linear": optax.join_schedules([rising, linear], [warmup]),
        "cosine": optax.warmup_cosine_decay_schedule(0, peak, warmup, total),
    }
    schedule = Schedule(
        jnp.asarray([KINDS.index(kind) for kind in known]),
        *(jnp.full(3, x) for x in (peak, warmup, total)),
    )
    for step in [0, 1, 4, 5, 6, 20, 39, 40, 50]:
        ours = learning_rate(schedule, jnp.full(3, step))
        theirs = [float(f(step)) for f in known.values()]
        within("learning rate", np.abs(ours / peak - np.asarray(theirs) / peak).max(), 1e-6)


def test_schedule_without_warmup_starts_at_its_peak():
    none = jnp.zeros(3, jnp.int32)
    schedule = Schedule(jnp.arange(3), jnp.full(3, 0.5), none, jnp.full(3, 10))
    np.testing.assert_allclose(learning_rate(schedule, none), 0.5)
