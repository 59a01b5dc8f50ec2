"""What is trained here says the same in PEFT, and what PEFT has trained goes on here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.tiny import as_batch, numbers, weights_of
from jaxtask.finetune.models.encoder import head_shapes
from jaxtask.finetune.models.load import load_head, load_model
from jaxtask.finetune.peft_io.read import read_adapter
from jaxtask.finetune.peft_io.write import AdapterForm, write_adapter
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.lora import init_lora, ranks
from jaxtask.finetune.training.parameters import stack_tasks, take_task
from jaxtask.finetune.training.step import StepOptions, adapters_of, make_predict
from parity.live_models import (
    DECODERS,
    make_decoder,
    make_encoder,
    one_of_each,
    peft,
    quiet,
    right_padded,
    save,
    tensor,
    torch,
)
from parity.live_peft import save as save_adapter
from parity.test_training import CLIP, DECAY, RATE, our_steps, torch_steps, with_peft

pytestmark = pytest.mark.parity

STEPS, CLASSES = 5, 3
SPECS = {
    "llama-3.1": Lora(r=4, alpha=8, targets="all-linear", rank_pattern={"layers.1.*down_proj": 2}),
    "mistral-window": Lora(r=3, alpha=6, rslora=True),
    "roberta": Lora(r=4, alpha=8, targets=("query", "value")),
    # Not all-linear: PEFT would adapt the pooler too.
    "bert": Lora(r=4, alpha=8, targets=("query", "intermediate.dense")),
}
_TRIED = {DECODERS[kind][0] for kind in SPECS if kind in DECODERS}
SPECS |= {k: Lora(r=4, alpha=8) for k in one_of_each(DECODERS) if DECODERS[k][0] not in _TRIED}


def make(kind):
    """The base; the same every time."""
    if kind in DECODERS:
        return make_decoder(kind)
    silent = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return make_encoder(kind, num_labels=CLASSES, **silent)


@pytest.fixture(params=SPECS)
def case(request, tmp_path):
    """(kind, our base, its head, LoRA settings, batch)."""
    kind, spec = request.param, SPECS[request.param]
    ours = load_model(save(make(kind), tmp_path / "base"), "float32")
    pad = 0 if kind in DECODERS else ours.config.pad
    tokens, places, segments = right_padded(np.random.default_rng(0), [20, 11, 7], 20, pad)
    if kind in DECODERS:
        batch = as_batch(tokens, places, segments, weights_of(places, segments, prompt=5))
        return kind, ours, {}, spec, batch
    weights = np.zeros(tokens.shape, np.float32)
    weights[:, :, 0] = 1
    labels = jnp.asarray(tokens[:, :, 0] % CLASSES, jnp.int32)
    head = load_head(tmp_path / "base", ours.config)
    return kind, ours, head, spec, as_batch(tokens, places, segments, weights, labels)


def settings_of(spec, ours):
    return numbers([spec], ours.config, peak=RATE, clip=CLIP, decay=DECAY, classes=CLASSES)


def train_here(ours, parameters, spec, batch):
    options = StepOptions(kind="text" if batch.labels is None else "classification")
    settings = settings_of(spec, ours)
    return our_steps(ours, parameters, settings, [batch] * STEPS, options)


def train_there(model, batch):
    def loss_of(model, batch):
        tokens, mask = tensor(batch.tokens[0]), tensor(batch.segments[0])
        if batch.labels is None:
            learned = torch.from_numpy(np.array(batch.weights[0])) > 0
            labels = torch.where(learned, tokens, -100)
        else:
            labels = tensor(batch.labels[0])
        return quiet(model, input_ids=tokens, attention_mask=mask, labels=labels).loss

    # Their schedule starts at rate 0, ours without warmup at its peak.
    return torch_steps(model, [batch] * STEPS, loss_of, warmup=0)


def scores_here(ours, parameters, spec, batch):
    settings = settings_of(spec, ours)
    if batch.labels is not None:
        return np.asarray(make_predict(ours)(parameters, settings, batch))[0]
    adapters = adapters_of(parameters, settings)
    return np.asarray(ours.logits(ours(*batch[:3], adapters)))[0]


def scores_there(model, batch):
    with torch.no_grad():
        tokens, mask = tensor(batch.tokens[0]), tensor(batch.segments[0])
        return quiet(model.eval(), input_ids=tokens, attention_mask=mask).logits.numpy()


def same_scores(within, name, ours, theirs, batch):
    live = np.asarray(batch.segments[0]) > 0 if batch.labels is None else slice(None)
    within(name, np.abs(ours - theirs)[live].max(), 1e-5)


def test_trained_here_and_loaded_in_peft(case, tmp_path, within):
    kind, ours, head, spec, batch = case
    fresh = init_lora([spec], ours.config) | jax.tree.map(lambda x: jnp.asarray(x)[None], head)
    start = scores_here(ours, fresh, spec, batch)
    state, _ = train_here(ours, fresh, spec, batch)
    shapes = head_shapes(ours.config, CLASSES) if head else {}
    form = AdapterForm("base", spec, ranks(spec, ours.config), ours.config.layer_name, shapes)
    write_adapter(tmp_path / "adapter", take_task(state.parameters, 0), form, {})
    model = quiet(peft.PeftModel.from_pretrained, make(kind), str(tmp_path / "adapter"))
    found = scores_here(ours, state.parameters, spec, batch)
    assert np.abs(found - start).max() > 1e-2
    same_scores(within, f"{kind} trained here", found, scores_there(model, batch), batch)


def test_trained_by_peft_and_continued_here(case, tmp_path, within):
    kind, ours, head, spec, batch = case
    model = with_peft(make(kind), spec, task_type="SEQ_CLS" if head else "CAUSAL_LM")
    before = train_there(model, batch)
    shapes = head_shapes(ours.config, CLASSES) if head else {}
    folder = save_adapter(model, tmp_path / "adapter")
    stored = read_adapter(folder, ours.config.linears, ours.config.layers, shapes)
    parameters = jax.tree.map(jnp.asarray, stack_tasks([stored.parameters]))
    found = scores_here(ours, parameters, stored.lora, batch)
    same_scores(within, f"{kind} trained by PEFT", found, scores_there(model, batch), batch)
    _, losses = train_here(ours, parameters, stored.lora, batch)
    theirs = train_there(model.train(), batch)
    assert theirs[-1] < theirs[0] < before[0]
    apart = np.abs(np.asarray(losses) / np.asarray(theirs) - 1).max()
    within(f"loss of {STEPS} more steps, {kind}", apart, 1e-3)
