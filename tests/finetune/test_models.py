"""Models without torch: attention against NumPy, shapes, generation, what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from finetune.tiny import (
    BERT,
    LLAMA,
    MISTRAL,
    ROBERTA,
    label_batch,
    lora,
    model,
    numbers,
    rows,
    text_batch,
)
from jaxtask.errors import TrainingError
from jaxtask.finetune.evaluation.generate import generate
from jaxtask.finetune.models.attention import _BLOCK, Places, attend, may_see
from jaxtask.finetune.models.rope import Rope, rotate, rotation
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.step import adapters_of


def attention_oracle(query, key, value, places, causal, window):
    """Float64, one query at a time."""
    R, S, N, H = query.shape
    group = N // key.shape[2]
    out = np.zeros(query.shape)
    for r in range(R):
        at, segment = places.positions[r], places.segments[r]
        for s in range(S):
            seen = segment == segment[s]
            if causal:
                seen &= at <= at[s]
            if window is not None:
                seen &= at[s] - at < window
            for n in range(N):
                scores = key[r, seen, n // group] @ query[r, s, n] / np.sqrt(H)
                share = np.exp(scores - scores.max())
                out[r, s, n] = share @ value[r, seen, n // group] / share.sum()
    return out


@pytest.mark.parametrize(
    ("S", "causal", "window"),
    [
        (12, True, None),
        (12, True, 4),
        (12, False, None),
        pytest.param(2 * _BLOCK + 5, True, 7, marks=pytest.mark.slow),
    ],
)
def test_attention(within, S, causal, window):
    """Segments, order and window; in blocks of queries where rows are long."""
    rng = np.random.default_rng(0)
    R, N, M, H = 2, 4, 2, 6
    query, key, value = (rng.standard_normal((R, S, heads, H)) for heads in (N, M, M))
    ends = [[5, 9], [S // 2, S]]
    segments, positions = np.zeros((2, R, S), int)
    for r, (first, second) in enumerate(ends):
        segments[r, :first], segments[r, first:second] = 1, 2
        positions[r, :first], positions[r, first:second] = range(first), range(second - first)
    places = Places(positions, segments)
    live = segments > 0
    expected = attention_oracle(query, key, value, places, causal, window)[live]
    arrays = (jnp.asarray(a, jnp.float32) for a in (query, key, value))
    on_device = jax.tree.map(jnp.asarray, places)
    found = attend(*arrays, on_device, on_device, causal=causal, window=window)
    assert np.isfinite(found).all()  # padding too
    within("attention", np.abs(np.asarray(found)[live] - expected).max(), 2e-6)


def test_no_token_of_a_row_sees_a_later_place():
    """So attention that is also told to be causal by place is the same."""
    segments = np.array([[1] * 5 + [2] * 9 + [0] * 2])
    positions = np.concatenate([np.arange(5), np.arange(9), np.zeros(2)])[None].astype(int)
    places = Places(jnp.asarray(positions), jnp.asarray(segments))
    seen = np.asarray(may_see(places, places, causal=True, window=None))[0, :14]
    assert seen.sum() == 5 * 6 / 2 + 9 * 10 / 2
    assert not np.triu(seen, 1).any()


def test_attention_that_cannot_be_had():
    x, places = jnp.ones((1, 4, 2, 8)), Places(*jnp.zeros((2, 1, 4), jnp.int32))
    with pytest.raises(TrainingError, match="attention 'cudnn' needs 16-bit numbers"):
        attend(x, x, x, places, places, causal=True, implementation="cudnn")


def test_rotation_is_by_position(within):
    """Scores of rotated queries and keys depend on the distance only."""
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.standard_normal((1, 1, 8)), jnp.float32) for _ in range(2))
    frequencies = Rope(10000.0).frequencies(8)

    def score(m, n):
        turned = (rotate(x, rotation(jnp.asarray([p]), frequencies)) for x, p in ((q, m), (k, n)))
        return float(jnp.sum(next(turned) * next(turned)))

    within("rotary scores", abs(score(3, 1) - score(40, 38)), 1e-5)
    assert abs(score(3, 1) - score(3, 2)) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("fields", [LLAMA, BERT, ROBERTA], ids=lambda f: f["model_type"])
def test_tasks_do_not_meet(within, fields):
    """Tasks with their own adapters, at once and one by one; in bfloat16 all stays bfloat16."""
    base, rng = model(fields), np.random.default_rng(1)
    names = list(base.config.linears)
    specs = [Lora(r=3, targets="all-linear"), Lora(r=2, targets=names[:1], seed=1)]
    make = text_batch if "silu" in fields.values() else label_batch
    more = () if make is text_batch else ([2, 2],)
    batch = make(rng, [[9, 4], [12, 7]], 12, *more)
    settings, parameters = numbers(specs, base.config), lora(specs, base.config)
    both = base(*batch[:3], adapters_of(parameters, settings))
    assert both.shape == (2, 2, 12, 24)
    for t in range(2):
        of_task = jax.tree.map(lambda x, t=t: x[:, t : t + 1], (parameters, settings.scale))
        own = adapters_of(of_task[0], settings._replace(scale=of_task[1]))
        alone = base(*(x[t : t + 1] for x in batch[:3]), own)
        within("tasks at once", np.abs(alone[0] - both[t]).max(), 1e-5)
    plain = base(*batch[:3])
    assert np.abs(plain - both)[0].max() > 1e-3


def test_half_precision_stays_half():
    base = model(LLAMA)
    definition, state = nnx.split(base)
    half = nnx.merge(definition, jax.tree.map(lambda x: x.astype(jnp.bfloat16), state))
    specs = [Lora(r=3, targets="all-linear")]
    batch = text_batch(np.random.default_rng(0), [[9, 4]], 12)
    adapters = adapters_of(lora(specs, base.config), numbers(specs, base.config))
    features = half(*batch[:3], adapters)
    assert features.dtype == jnp.bfloat16
    assert half.logits(features).dtype == jnp.float32
    exact = base(*batch[:3], adapters)
    live = np.asarray(batch.segments) > 0
    error = np.abs(np.asarray(features, np.float32) - exact)[live].max()
    assert error < 0.05 * np.abs(np.asarray(exact)[live]).max()


def test_rows_longer_than_the_encoder():
    base = model(ROBERTA)
    assert base.config.positions == 40
    for width, fails in ((40, False), (41, True)):
        batch = label_batch(np.random.default_rng(0), [[width]], width, [2])
        if fails:
            with pytest.raises(TrainingError, match=r"rows of 41 tokens .* has 40 positions"):
                base(*batch[:3])
        else:
            assert np.isfinite(base(*batch[:3])).all()


def greedy_without_cache(logits, prompt, new, ends):
    """The definition: the whole text again for every token."""
    text = list(prompt)
    for _ in range(new):
        text.append(int(np.argmax(logits(text)[len(text) - 1])))
        if text[-1] in ends:
            break
    return text[len(prompt) :]


@pytest.mark.parametrize(
    "fields",
    [pytest.param(LLAMA, id="llama"), pytest.param(MISTRAL, id="mistral", marks=pytest.mark.slow)],
)
def test_generation_with_cache_is_generation_without(fields):
    """Two tasks, prompts of several lengths, one row left out, rows that end early."""
    base, rng, new = model(fields), np.random.default_rng(3), 10
    specs = [Lora(r=3, targets="all-linear"), Lora(r=2, seed=1)]
    adapters = adapters_of(lora(specs, base.config), numbers(specs, base.config))
    lengths = np.asarray([[7, 3, 12], [5, 0, 9]])
    prompts = rng.integers(3, 61, (2, 3, 12))
    free = np.asarray(
        generate(base, jnp.asarray(prompts), jnp.asarray(lengths), new, adapters, ends=(-2, -2))
    )
    assert (free[lengths > 0] >= 0).all()
    forward = jax.jit(lambda *arrays: base.logits(base(*arrays, adapters)))

    def logits(task, text):
        return np.asarray(forward(*(np.stack([a, a]) for a in rows([text], 24))))[task, 0]

    ends = (int(free[0, 0, 4]), int(free[1, 2, 6]))
    found = np.asarray(
        generate(base, jnp.asarray(prompts), jnp.asarray(lengths), new, adapters, ends=ends)
    )
    assert found.shape == (2, 3, new)
    stopped = 0
    for t, b in np.ndindex(2, 3):
        if lengths[t, b] == 0:
            assert (found[t, b] == -1).all()
            continue
        prompt = prompts[t, b, : lengths[t, b]]
        expected = greedy_without_cache(partial(logits, t), prompt, new, ends)
        stopped += len(expected) < new
        assert found[t, b].tolist() == expected + [-1] * (new - len(expected))
    assert stopped >= 2
