import json

from jaxtask.corpora.text_rows import MAX_PROMPTS, Pair, known_shape


def test_prompts_of_a_long_conversation_are_bounded(tmp_path):
    """With 20,000 turns of 100 characters, all would be ten gigabytes."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": "x" * 100} for n in range(20_000)]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": turns}))
    ((_, found),) = known_shape(path).rows(path)
    pairs = [one for one in found if isinstance(one, Pair)]
    assert MAX_PROMPTS * 0.9 < sum(len(one.prompt) for one in pairs) <= MAX_PROMPTS
    assert found[len(pairs) :] == [
        "answers after 4,194,304 characters of prompts in one conversation"
    ]
