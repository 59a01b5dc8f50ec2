"""A training step with dropout against transformers in training mode, whose masks are ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.tiny import as_batch, numbers
from jaxtask.finetune.models.load import load_head, load_model
from jaxtask.finetune.recipe.settings import Lora
from jaxtask.finetune.training.lora import init_lora
from jaxtask.finetune.training.step import StepOptions, _dropout, init_state, make_train_step
from parity.live_models import make_encoder, quiet, right_padded, save, tensor, torch

pytestmark = pytest.mark.parity

HIDDEN, ATTENTION, HEAD = 0.2, 0.3, 0.25
HEADS = {"roberta": ("classifier.dense", "classifier.out_proj"), "bert": ("classifier",)}


def uses(kind, layers):
    """(rate, layer or None, use) in the order in which the model drops."""
    yield HIDDEN, None, "hidden, embeddings"
    for layer in range(layers):
        yield ATTENTION, layer, "attention"
        yield HIDDEN, layer, "hidden, attention"
        yield HIDDEN, layer, "hidden, output"
    for name in HEADS[kind]:
        yield HEAD, None, name


@pytest.mark.parametrize("kind", HEADS)
def test_what_is_dropped_where(tmp_path, within, monkeypatch, kind):
    theirs = make_encoder(
        kind,
        num_labels=3,
        hidden_dropout_prob=HIDDEN,
        attention_probs_dropout_prob=ATTENTION,
        classifier_dropout=HEAD,
    )
    folder = save(theirs, tmp_path / "base")
    ours = load_model(folder, "float32")
    config = ours.config
    spec = Lora(r=2, alpha=4, targets=("query",))
    head = jax.tree.map(lambda x: x[None], load_head(folder, config))
    settings = numbers([spec], config, classes=3, seed=11)
    tokens, places, segments = right_padded(np.random.default_rng(0), [18, 7, 12], 18, config.pad)
    weights = np.zeros(tokens.shape, np.float32)
    weights[:, :, 0] = 1
    labels = jnp.asarray([[0, 2, 1]], jnp.int32)
    batch = as_batch(tokens, places, segments, weights, labels)
    step = make_train_step(ours, StepOptions("classification", dropout=True, base_dropout=True))
    state = init_state(init_lora([spec], config) | head)
    _, report = step(state, settings, batch, jnp.ones(1, bool))

    drop = _dropout(settings, jnp.zeros(1, jnp.int32), jnp.arange(3))
    order = uses(kind, config.layers)

    def dropped(x, p=0.5, training=True, inplace=False):
        rate, layer, use = next(order)
        assert (p, training) == (rate, True)
        own = drop.at_rate(rate) if layer is None else drop.of_layer(jnp.int32(layer)).at_rate(rate)
        if use == "attention":
            mask = own.attention(jnp.ones(x.shape), batch.positions[0], use)
        else:
            mask = own(jnp.ones((1, x.shape[0], *([1] * (3 - x.ndim)), *x.shape[1:])), use)
        return x * torch.from_numpy(np.array(mask)).reshape(x.shape)

    monkeypatch.setattr(torch.nn.functional, "dropout", dropped)
    with torch.no_grad():
        loss = quiet(
            theirs.train(),
            input_ids=tensor(tokens[0]),
            attention_mask=tensor(segments[0]),
            labels=tensor(labels[0]),
        ).loss
    assert next(order, None) is None
    within(f"loss with dropout, {kind}", abs(float(report.loss[0]) / loss.item() - 1), 1e-5)
