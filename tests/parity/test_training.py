"""Twenty AdamW steps here and in PEFT + torch, from the same adapters on the same batches."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.tiny import as_batch, numbers, weights_of
from jaxtask.finetune.data.examples import EncodedTask
from jaxtask.finetune.models.load import load_head, load_model
from jaxtask.finetune.recipe.settings import Lora, make_recipe
from jaxtask.finetune.training.lora import init_lora, ranks, scales
from jaxtask.finetune.training.start import find_starts, initial
from jaxtask.finetune.training.step import StepOptions, init_state, make_train_step
from parity.live_models import (
    make_decoder,
    make_encoder,
    peft,
    quiet,
    right_padded,
    save,
    tensor,
    torch,
)

pytestmark = pytest.mark.parity

STEPS, RATE, WARMUP, CLIP, DECAY = 20, 1e-2, 3, 1.0, 0.02


def with_peft(base, spec, **fields):
    config = peft.LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        use_rslora=spec.rslora,
        target_modules=spec.targets if isinstance(spec.targets, str) else list(spec.targets),
        rank_pattern=dict(spec.rank_pattern),
        alpha_pattern=dict(spec.alpha_pattern),
        **fields,
    )
    return quiet(peft.get_peft_model, base, config)


def lora_layers(model):
    """(layer, our module path) → PEFT's layer."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            layer, path = re.search(r"\.layers?\.(\d+)\.(.*)", name).groups()
            found[int(layer), path] = module
    return found


def to_ours(model, parameters):
    """Their factors in our form, with zeros beyond a module's rank."""
    ours = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), parameters)
    for (layer, path), module in lora_layers(model).items():
        A = module.lora_A["default"].weight.detach().numpy()
        B = module.lora_B["default"].weight.detach().numpy()
        ours[path]["A"][layer, 0, :, : len(A)] = A.T
        ours[path]["B"][layer, 0, : len(A)] = B.T
    return jax.tree.map(jnp.asarray, ours)


def torch_steps(model, batches, loss_of, warmup=WARMUP):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: 1 if n >= warmup else n / warmup
    )
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        quiet(schedule.step)
        losses.append(loss.item())
    return losses


def our_steps(base, parameters, settings, batches, options):
    state, losses = init_state(parameters), []
    step = make_train_step(base, options)
    for batch in batches:
        state, report = step(state, settings, batch, jnp.ones(1, bool))
        losses.append(float(report.loss[0]))
    return state, losses


def compare(within, name, ours, theirs, falls):
    assert theirs[-1] < falls * theirs[0], "the run must learn something to be worth comparing"
    apart = np.abs(np.asarray(ours) / np.asarray(theirs) - 1).max()
    within(f"loss of {STEPS} steps against torch, {name}", apart, 1e-3)


SPECS = {
    "qv": Lora(r=4, alpha=8),
    "all, rslora": Lora(r=3, alpha=6, rslora=True, targets="all-linear"),
    "patterns": Lora(
        r=4,
        alpha=8,
        targets=r".*\.(q_proj|down_proj)",
        rank_pattern={r"layers\.1\..*": 2, "down_proj": 3},
        alpha_pattern={r"^model\.layers\.0\.self_attn\.q_proj": 16},
    ),
}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("llama-3.1", "qv"), ("mistral-window", "all, rslora"), ("llama-3.1", "patterns")],
)
def test_text(tmp_path, within, kind, spec):
    spec = SPECS[spec]
    theirs = make_decoder(kind)
    ours = load_model(save(theirs, tmp_path / "base"), "float32")
    model = with_peft(theirs, spec, task_type="CAUSAL_LM")

    own = {key: m.r["default"] for key, m in lora_layers(model).items()}
    table = ranks(spec, ours.config)
    assert own == {(n, m): r for m, row in table.items() for n, r in enumerate(row.tolist()) if r}
    for (layer, path), module in lora_layers(model).items():
        np.testing.assert_allclose(
            scales([spec], ours.config)[path][layer, 0], module.scaling["default"], rtol=1e-6
        )
    parameters = init_lora([spec], ours.config)
    live = to_ours(model, parameters)
    for path, factors in live.items():  # PEFT's own start: uniform within the same bounds, B zero
        bound = 1 / np.sqrt(factors["A"].shape[2])
        for start in (factors["A"], parameters[path]["A"]):
            assert 0.9 * bound < np.abs(start).max() <= bound
        assert not factors["B"].any()
        assert not parameters[path]["B"].any()

    rng = np.random.default_rng(0)
    batches = []
    for _ in range(4):
        tokens, places, segments = right_padded(rng, [24, 15, 9, 20], 24, 0)
        batches.append(as_batch(tokens, places, segments, weights_of(places, segments, prompt=6)))
    batches = [batches[n % 4] for n in range(STEPS)]

    def loss_of(model, batch):
        tokens, mask = tensor(batch.tokens[0]), tensor(batch.segments[0])
        labels = torch.where(torch.from_numpy(np.array(batch.weights[0])) > 0, tokens, -100)
        return quiet(model, input_ids=tokens, attention_mask=mask, labels=labels).loss

    settings = numbers(
        [spec], ours.config, kind="constant", peak=RATE, warmup=WARMUP, clip=CLIP, decay=DECAY
    )
    state, losses = our_steps(ours, live, settings, batches, StepOptions())
    compare(within, "text", losses, torch_steps(model, batches, loss_of), 0.98)
    trained = to_ours(model, parameters)
    for path, factors in trained.items():
        for side in "AB":
            apart = np.abs(factors[side] - state.parameters[path][side]).max()
            within(f"{side} after {STEPS} steps", apart, 2e-3)


@pytest.mark.parametrize("kind", ["llama-3.1", "bert"])
def test_an_adapter_of_peft_is_trained_further(tmp_path, within, kind):
    """PEFT trains, saves, and goes on with a new optimiser; we go on from what it saved."""
    encoder = kind == "bert"
    silent = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = make_encoder(kind, num_labels=3, **silent) if encoder else make_decoder(kind)
    base = save(theirs, tmp_path / "base")
    ours = load_model(base, "float32")
    spec = Lora(r=4, alpha=8, rslora=True, targets=("query",) if encoder else ("q_proj", "v_proj"))
    model = with_peft(theirs, spec, task_type="SEQ_CLS" if encoder else "CAUSAL_LM")
    rng, batches = np.random.default_rng(1), []
    for _ in range(4):
        tokens, places, segments = right_padded(rng, [20, 11, 9], 20, 0)
        weights, labels = weights_of(places, segments, prompt=6), None
        if encoder:
            weights = np.zeros(tokens.shape, np.float32)
            weights[:, :, 0] = 1
            labels = jnp.asarray(tokens[:, :, 0] % 3, jnp.int32)
        batches.append(as_batch(tokens, places, segments, weights, labels))

    def loss_of(model, batch):
        tokens, mask = tensor(batch.tokens[0]), tensor(batch.segments[0])
        labels = torch.where(torch.from_numpy(np.array(batch.weights[0])) > 0, tokens, -100)
        if encoder:
            labels = tensor(batch.labels[0])
        return quiet(model, input_ids=tokens, attention_mask=mask, labels=labels).loss

    torch_steps(model, batches, loss_of)
    saved = tmp_path / "saved" / "t"
    quiet(model.save_pretrained, str(saved))
    recipe = make_recipe({"base": str(base), "out": "o", "start": str(saved.parent)}, "test")
    labels = ("a", "b", "c") if encoder else ()
    task = EncodedTask("t", "classification" if encoder else "text", labels, {}, {}, {})
    starts = find_starts(recipe, [task], ours.config, base)
    assert starts["t"].about.get("head") == ("the adapter's" if encoder else None)
    settings = numbers(
        [starts["t"].lora],
        ours.config,
        peak=RATE,
        warmup=WARMUP,
        clip=CLIP,
        decay=DECAY,
        classes=3,
    )
    options = StepOptions(kind=task.kind)
    parameters = initial(list(starts.values()), ours.config)
    again = [batches[n % 4] for n in range(STEPS)]
    _, losses = our_steps(ours, parameters, settings, again, options)
    compare(within, f"{kind}, further", losses, torch_steps(model, again, loss_of), 0.99)


@pytest.mark.parametrize("labels", [3, 1], ids=["classification", "regression"])
@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_labels(tmp_path, within, kind, labels):
    silent = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    theirs = make_encoder(kind, num_labels=labels, **silent)
    folder = save(theirs, tmp_path / "base")
    ours = load_model(folder, "float32")
    spec = Lora(r=4, alpha=8, targets=("query", "value"))
    model = with_peft(theirs, spec, task_type="SEQ_CLS")
    head = jax.tree.map(lambda x: x[None], load_head(folder, ours.config))
    parameters = to_ours(model, init_lora([spec], ours.config)) | head

    rng = np.random.default_rng(0)
    batches = []
    for _ in range(4):
        tokens, places, segments = right_padded(rng, [18, 7, 12, 9], 18, ours.config.pad)
        weights = np.zeros(tokens.shape, np.float32)
        weights[:, :, 0] = 1
        given = tokens[0, :, 0] % 3 if labels > 1 else tokens[0, :, 0] / 48
        given = jnp.asarray(given[None], jnp.int32 if labels > 1 else jnp.float32)
        batches.append(as_batch(tokens, places, segments, weights, given))
    batches = [batches[n % 4] for n in range(STEPS)]

    def loss_of(model, batch):
        given = torch.from_numpy(np.array(batch.labels[0]))
        out = quiet(
            model,
            input_ids=tensor(batch.tokens[0]),
            attention_mask=tensor(batch.segments[0]),
            labels=given.long() if labels > 1 else given,
        )
        return out.loss

    settings = numbers(
        [spec], ours.config, peak=RATE, warmup=WARMUP, clip=CLIP, decay=DECAY, classes=labels
    )
    options = StepOptions(kind="classification" if labels > 1 else "regression")
    _, losses = our_steps(ours, parameters, settings, batches, options)
    compare(within, "labels", losses, torch_steps(model, batches, loss_of), 0.8)
