"""The training step: accumulation, stacking, packing, freezing, compiling."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from engine.test_compilation import compilations
from finetune.tiny import (
    BERT,
    LLAMA,
    MISTRAL,
    ROBERTA,
    as_batch,
    copied,
    examples,
    label_batch,
    largest_difference,
    lora,
    model,
    numbers,
    only_task,
    packed,
    rows,
    task_of,
    text_batch,
    weights_of,
)
from jaxtask.errors import TrainingError
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.step import (
    StepOptions,
    init_state,
    make_eval_step,
    make_predict,
    make_train_step,
)

pytestmark = pytest.mark.slow

SPECS = [
    Lora(r=4, targets=("q_proj", "v_proj", "up_proj"), seed=1),
    Lora(r=2, seed=2, rslora=True),
    Lora(r=3, targets=("v_proj", "up_proj"), seed=3, alpha=5),
]


def on(tasks):
    return jnp.ones(tasks, bool)


@cache
def train_step(base, options):
    """One compiled step for all tests of a model and options: compiling is what takes time."""
    return make_train_step(base, options)


def train(base, options, specs, batches, actives=None, classes=None, settings=None, **others):
    """State and reports after the batches."""
    settings = settings or numbers(specs, base.config, **others)
    state = init_state(lora(specs, base.config, classes))
    step, reports = train_step(base, options), []
    for n, batch in enumerate(batches):
        active = on(len(specs)) if actives is None else jnp.asarray(actives[n])
        state, report = step(state, settings, batch, active)
        reports.append(report)
    return state, reports


GRADIENT = StepOptions(betas=(0.0, 0.0))  # the first moment is then the gradient


def relative(first, second):
    """Norm of the difference over the norm."""
    pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    apart = sum(np.sum((np.asarray(a, float) - b) ** 2) for a, b in pairs)
    return np.sqrt(apart / sum(np.sum(np.asarray(a, float) ** 2) for a, _ in pairs))


def test_packed_equals_unpacked(within):
    """Logits and LoRA gradients of five examples in five rows, and in one; also by a window."""
    parts = examples(np.random.default_rng(0), [9, 4, 12, 3, 7])
    forms = {"rows": rows(parts, 16), "packed": packed(parts, 40)}
    for fields in (LLAMA, MISTRAL):
        base, features, gradients = model(fields), [], []
        for arrays in forms.values():
            batch = as_batch(*(a[None] for a in (*arrays, weights_of(*arrays[1:]))))
            out = np.asarray(base.logits(base(*batch[:3])))[0]
            features.append(
                np.concatenate([out[arrays[2] == n] for n in sorted({*arrays[2].flat} - {0})])
            )
            if fields is MISTRAL:
                state, _ = train(base, GRADIENT, SPECS[:1], [batch])
                gradients.append(state.adam.mu)
        assert features[0].shape == features[1].shape == (35, 61)
        within("packed = unpacked, logits", np.abs(features[0] - features[1]).max(), 1e-5)
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradients[0])) > 1e-3
    within("packed = unpacked, gradients", largest_difference(*gradients), 1e-5)


def test_accumulation_is_exact_for_ragged_rows(within):
    base, specs = model(LLAMA, num_hidden_layers=1), SPECS[:2]
    lengths = [[16, 3, 9, 0, 5, 4, 13, 7], [3, 3, 4, 16, 0, 0, 8, 5]]
    batch = text_batch(np.random.default_rng(1), lengths, 16)
    options = dataclasses.replace(GRADIENT, dropout=True)
    (one, once), (eight, eightfold) = (
        train(base, dataclasses.replace(options, accumulate=parts), specs, [batch], dropout=0.3)
        for parts in (1, 8)
    )
    within("accumulation, loss", np.abs(eightfold[0].loss / once[0].loss - 1).max(), 1e-6)
    within("accumulation, gradient", relative(one.adam.mu, eight.adam.mu), 1e-6)
    assert once[0].weight.tolist() == eightfold[0].weight.tolist() == [43, 27]


def test_accumulation_must_divide_the_rows():
    base = model(LLAMA)
    batch = text_batch(np.random.default_rng(1), [[4, 4, 4]], 8)
    with pytest.raises(TrainingError, match="3 rows cannot be cut into 2"):
        train(base, StepOptions(accumulate=2), SPECS[:1], [batch])


EIGHT = [
    Lora(r=1 + t % 4, seed=t, alpha=4 + t, targets=("v_proj", "down_proj")[: 1 + t % 2])
    for t in range(8)
]


def test_stacked_equals_solo(within):
    """Eight tasks with their own ranks, lengths, rates, schedules and ends, at once and alone."""
    base, rng = model(LLAMA), np.random.default_rng(2)
    lengths = [[4 + t, 12 - t, 0 if t % 2 else 5] for t in range(8)]
    batches = [text_batch(rng, lengths, 16) for _ in range(4)]
    stops = np.asarray([4, 2, 4, 1, 3, 4, 0, 2])
    actives = [n < stops for n in range(4)]
    own = {
        "peak": np.linspace(2e-4, 2e-3, 8),
        "warmup": np.arange(8) % 3,
        "total": 4 + np.arange(8),
        "clip": np.where(np.arange(8) % 2, 0.1, np.inf),
        "decay": 0.01 * np.arange(8),
        "dropout": 0.2 * np.arange(8) / 8,
        "seed": np.arange(8) + 10,
    }
    together = numbers(EIGHT, base.config, kind="cosine", **own)
    stacked, reports = train(base, DROPOUT, EIGHT, batches, actives, settings=together)
    start = lora(EIGHT, base.config)
    # One at its own rank and modules, the others in the stack's padding: compiling takes time.
    trimmed = 4
    for t in range(8):
        alone = numbers([EIGHT[t]], base.config, kind="cosine", **{k: v[t] for k, v in own.items()})
        modules, rank = (alone.scale, EIGHT[t].r) if t == trimmed else (start, 4)
        if t != trimmed:
            zero = jnp.zeros((base.config.layers, 1))
            alone = alone._replace(scale={m: alone.scale.get(m, zero) for m in start})
        state = init_state(own_part(only_task(start, t), modules, rank))
        for n, batch in enumerate(batches):
            active = jnp.asarray(actives[n][t : t + 1])
            state, report = train_step(base, DROPOUT)(state, alone, task_of(batch, t), active)
            within("stacked = solo, loss", abs(report.loss[0] - reports[n].loss[t]), 1e-5)
        mine = own_part(only_task(stacked.parameters, t), modules, rank)
        within("stacked = solo, parameters", largest_difference(state.parameters, mine), 1e-5)
        assert int(state.adam.count[0]) == stops[t] == int(stacked.adam.count[t])
    moved = largest_difference(only_task(start, 0), only_task(stacked.parameters, 0))
    assert moved > 1e-4


DROPOUT = StepOptions(dropout=True)


def own_part(parameters, modules, rank):
    return {
        m: {
            "A": jnp.array(parameters[m]["A"][..., :rank]),
            "B": jnp.array(parameters[m]["B"][:, :, :rank]),
        }
        for m in modules
    }


def test_dropout_does_not_depend_on_padding(within):
    """The same rows in a wider batch meet the same dropout."""
    base, rng = model(LLAMA), np.random.default_rng(3)
    narrow = text_batch(rng, [[7, 5]], 8)
    wide = jax.tree.map(lambda x: jnp.pad(x, [(0, 0), (0, 0), (0, 6)]), narrow)
    with_dropout, without = (
        [
            train(base, DROPOUT, SPECS[1:2], [batch], dropout=rate)[1][0].loss
            for batch in (narrow, wide)
        ]
        for rate in (0.5, 0.0)
    )
    within("dropout under padding", np.abs(with_dropout[0] - with_dropout[1]).max(), 1e-6)
    assert abs(with_dropout[0] - without[0]).max() > 1e-4


def test_beyond_a_rank_all_stays_zero():
    base, rng = model(LLAMA), np.random.default_rng(4)
    batches = [text_batch(rng, [[9, 9]] * 3, 12) for _ in range(3)]
    state, _ = train(base, DROPOUT, SPECS, batches, decay=0.1, dropout=0.1)
    q = state.parameters["self_attn.q_proj"]
    assert q["A"].shape[-1] == 4
    assert not np.asarray(q["A"])[:, 1, :, 2:].any()
    assert not np.asarray(q["B"])[:, 1, 2:].any()
    assert not np.asarray(q["B"])[:, 2].any()  # task 2 does not target it
    assert np.asarray(q["B"])[:, 1, :2].all()


def test_inactive_and_empty_tasks_stay_bit_identical():
    base, rng = model(LLAMA), np.random.default_rng(5)
    first = text_batch(rng, [[9, 9]] * 3, 12)
    settings = numbers(SPECS, base.config, decay=0.1)
    step = train_step(base, DROPOUT)
    state, _ = step(init_state(lora(SPECS, base.config)), settings, first, on(3))
    before = jax.tree.map(np.array, state)
    empty = text_batch(rng, [[9, 9], [9, 9], [0, 0]], 12)
    state, report = step(state, settings, empty, jnp.asarray([True, False, True]))
    for t in (1, 2):
        pairs = zip(
            jax.tree.leaves(only_task(before, t)), jax.tree.leaves(only_task(state, t)), strict=True
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert largest_difference(only_task(before, 0), only_task(state, 0)) > 0
    assert report.weight.tolist() == [14, 14, 0]
    assert report.loss[2] == 0
    assert np.isfinite(report.norm).all()


def test_gradient_is_taken_of_the_parameters_only():
    """The moments have the structure of the parameters, task by task."""
    base = model(LLAMA)
    state = init_state(lora(SPECS, base.config))
    assert jax.tree.structure(state.adam.mu) == jax.tree.structure(state.parameters)
    assert state.adam.count.shape == (3,)


def test_one_compilation_a_shape():
    """Other tasks, rates, schedules, ends and seeds run what is compiled already."""
    base, rng = model(LLAMA, vocab_size=67), np.random.default_rng(7)
    step = make_train_step(base, StepOptions())
    runs = []
    for seed, kind in ((0, "constant"), (1, "cosine")):
        specs = [Lora(r=2, seed=seed), Lora(r=3, seed=seed, alpha=seed + 1)]
        settings = numbers(specs, base.config, kind=kind, peak=[0.1, 0.2 + seed], seed=seed)
        batches = [text_batch(rng, [[9, 9]] * 2, 12) for _ in range(3)]
        runs.append((init_state(lora(specs, base.config)), settings, batches))
    with compilations() as counted:
        for state, settings, batches in runs:
            for n, batch in enumerate(batches):
                state, _ = step(state, settings, batch, jnp.asarray([True, n < 1]))
    assert sum(n for name, n in counted.items() if "step" in name) == 1, counted


def test_program_does_not_grow_with_the_layers():
    """So compiling 32 layers takes no longer than two."""
    specs = [Lora(r=2, targets="all-linear")]
    batch = text_batch(np.random.default_rng(0), [[9, 9]], 12)

    def size(layers):
        base = model(LLAMA, num_hidden_layers=layers)
        state, settings = init_state(lora(specs, base.config)), numbers(specs, base.config)
        step = make_train_step(base, DROPOUT)
        return len(step.func.lower(*step.args, state, settings, batch, on(1)).as_text())

    assert size(32) < 1.05 * size(2)


def test_classification_stacked_equals_solo(within):
    """Two numbers of classes in one stack, all dropout on."""
    base, rng = model(ROBERTA), np.random.default_rng(8)
    specs = [Lora(r=3, targets=("query", "value"), seed=n) for n in (1, 2)]
    classes, seed = [2, 4], [5, 6]
    batches = [label_batch(rng, [[9, 4, 7], [3, 9, 0]], 12, classes) for _ in range(3)]
    options = dataclasses.replace(DROPOUT, kind="classification", base_dropout=True)
    settings = numbers(specs, base.config, classes=classes, seed=seed, dropout=0.1)
    stacked, reports = train(base, options, specs, batches, classes=classes, settings=settings)
    assert reports[0].weight.tolist() == [3, 2]
    # Cross entropy over a task's own classes: near its chance level at the start.
    within("chance level", np.abs(reports[0].loss - np.log(classes)).max(), 0.5)
    start = lora(specs, base.config, classes)
    for t in range(2):
        alone = numbers([specs[t]], base.config, classes=classes[t], seed=seed[t], dropout=0.1)
        state = init_state(copied(only_task(start, t)))
        for batch in batches:
            state, _ = train_step(base, options)(state, alone, task_of(batch, t), on(1))
        mine = only_task(stacked.parameters, t)
        within("classifiers stacked = solo", largest_difference(state.parameters, mine), 1e-5)
    head = stacked.parameters[list(start)[-1]]
    assert not np.asarray(head["kernel"])[0, :, 2:].any()  # task 0 has two classes
    scores = make_predict(base)(stacked.parameters, settings, batches[0])
    assert scores.shape == (2, 3, 4)
    assert (np.argmax(scores, -1)[0] < 2).all()


def test_regression_learns():
    base, rng = model(BERT), np.random.default_rng(9)
    specs = [Lora(r=3, targets=("query", "value"))]
    batch = label_batch(rng, [[9, 4, 7, 8]], 12, [2])
    batch = batch._replace(labels=jnp.asarray([[0.3, -1.0, 2.0, 0.5]]))
    options = StepOptions(kind="regression")
    state, reports = train(base, options, specs, [batch] * 30, classes=[1], peak=3e-2)
    settings = numbers(specs, base.config)
    sums = make_eval_step(base, options)(state.parameters, settings, batch)
    scores = np.asarray(make_predict(base)(state.parameters, settings, batch))
    expected = np.sum((scores[0, :, 0] - [0.3, -1.0, 2.0, 0.5]) ** 2)
    np.testing.assert_allclose(sums.loss[0], expected, rtol=1e-5)
    assert sums.loss[0] / sums.weight[0] < 0.3 * reports[0].loss[0]


def test_adamw_is_optax(within):
    """One task against optax's own AdamW with clipping on the same gradients."""
    base, rng = model(LLAMA), np.random.default_rng(10)
    specs, clip, decay = [SPECS[1]], 0.05, 0.1
    batches = [text_batch(rng, [[7, 5]], 8) for _ in range(5)]
    state, _ = train(base, DROPOUT, specs, batches, clip=clip, decay=decay)
    tx = optax.chain(optax.clip_by_global_norm(clip), optax.adamw(1e-2, weight_decay=decay))
    parameters = lora(specs, base.config)
    moments = tx.init(parameters)
    evaluate = make_eval_step(base, StepOptions())
    settings = numbers(specs, base.config)

    def mean(parameters, batch):
        loss, weight = evaluate(parameters, settings, batch)
        return loss[0] / weight[0]

    gradient = jax.jit(jax.grad(mean))
    for batch in batches:
        updates, moments = tx.update(gradient(parameters, batch), moments, parameters)
        parameters = optax.apply_updates(parameters, updates)
    within("AdamW = optax", largest_difference(parameters, state.parameters), 1e-5)


def test_remat_changes_nothing(within):
    base, rng = model(LLAMA), np.random.default_rng(11)
    batches = [text_batch(rng, [[7, 5]], 8)] * 2
    states = [
        train(base, dataclasses.replace(DROPOUT, remat=remat), SPECS[1:2], batches, dropout=0.2)[0]
        for remat in (True, False)
    ]
    within("remat", largest_difference(*states), 1e-5)


def test_a_model_is_trained_on_what_it_can():
    with pytest.raises(TrainingError, match="llama model is trained on text, not on regression"):
        make_train_step(model(LLAMA), StepOptions(kind="regression"))
    with pytest.raises(TrainingError, match="bert model is trained on classification"):
        make_train_step(model(BERT), StepOptions())
    base = model(BERT)
    specs = [Lora(r=2, targets=("query",))]
    batch = text_batch(np.random.default_rng(0), [[4]], 8)
    with pytest.raises(TrainingError, match="no labels"):
        train(base, StepOptions(kind="classification"), specs, [batch], classes=[2])


@pytest.mark.usefixtures("compile_fully")
def test_base_is_frozen():
    """Bit-identical after training; and the compiled step has no memory for its gradients."""
    base = model(LLAMA, vocab_size=4000, hidden_size=128, num_hidden_layers=12)
    before = jax.tree.map(np.array, nnx.split(base)[1])
    rng = np.random.default_rng(6)
    batches = [text_batch(rng, [[6, 5]], 8) for _ in range(2)]
    specs = [SPECS[1]]
    state, settings = init_state(lora(specs, base.config)), numbers(specs, base.config)
    step = make_train_step(base, StepOptions())
    compiled = step.func.lower(*step.args, state, settings, batches[0], on(1)).compile()
    for batch in batches:
        state, _ = compiled(*step.args, state, settings, batch, on(1))
    assert int(state.adam.count[0]) == 2
    after = nnx.split(base)[1]
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )
    memory = compiled.memory_analysis()
    base_bytes = sum(x.nbytes for x in jax.tree.leaves(before))
    state_bytes = sum(x.nbytes for x in jax.tree.leaves(state))
    assert base_bytes > 40 * state_bytes
    assert memory.argument_size_in_bytes >= base_bytes + state_bytes
    assert memory.output_size_in_bytes < 2 * state_bytes
    assert memory.alias_size_in_bytes >= state_bytes  # the state is updated in place
    assert memory.temp_size_in_bytes < base_bytes / 2
