"""Recipes: what they take, what they refuse and how they say it, and the ones that ship."""

import json

import pytest

from jaxtask.errors import RecipeError
from jaxtask.finetune.recipe.files import read_recipe, shipped_recipes
from jaxtask.finetune.recipe.settings import Lora, Recipe, Training, change, make_recipe


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return _write


def test_a_full_recipe_is_read(write):
    recipe = read_recipe(
        write(
            "base: some/base\nprompt: chat\ndata: [data/ner, data/sum]\n"
            "lora: {r: 16, alpha: 32, targets: '.*_proj', rank_pattern: {q_proj: 4}}\n"
            "training: {steps: 30, lr: 4e-5, betas: [0.9, 0.95], clip: null, mesh: {task: 2}}\n"
            "tasks: {ner: {lora: {r: 2}, training: {lr: 1e-4}}}\n"
        )
    )
    assert recipe.base == "some/base"
    assert recipe.data == ("data/ner", "data/sum")
    assert recipe.lora == Lora(r=16, alpha=32, targets=".*_proj", rank_pattern={"q_proj": 4})
    assert recipe.training.lr == 4e-5
    assert recipe.training.betas == (0.9, 0.95)
    assert recipe.training.clip is None
    assert (recipe.training.steps, recipe.training.epochs) == (30, None)
    ner = recipe.for_task("ner")
    assert (ner.lora.r, ner.lora.alpha, ner.training.lr, ner.training.steps) == (2, 32, 1e-4, 30)
    assert recipe.for_task("sum") == (recipe.lora, recipe.training)


def test_json_and_back_is_the_same():
    recipe = make_recipe(
        {"base": "b", "lora": {"alpha_pattern": {"x": 2}}, "tasks": {"t": {"lora": {"r": 3}}}}, "x"
    )
    assert make_recipe(json.loads(json.dumps(recipe.json())), "x") == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lora: {r: 8}", r"recipe\.yaml: base is missing, expected text"),
        ("base: b\nlora: {r: 0}", r"recipe\.yaml: lora\.r is 0, expected a whole number from 1 on"),
        ("base: b\nlora: {r: true}", r"lora\.r is True, expected a whole number"),
        ("base: b\nlora: {r: 4.5}", r"lora\.r is 4\.5, expected a whole number"),
        ("base: b\nlora: {rank: 8}", r"lora\.rank is not a setting: did you mean lora\.r"),
        ("base: b\ntrainin: {}", r"trainin is not a setting: did you mean training\?"),
        ("base: b\nlora: 8", r"lora is 8, expected names with values"),
        ("base: b\nlora: {targets: []}", r"lora\.targets is \[\], expected text, or a list"),
        ("base: b\nlora: {rank_pattern: {'(': 3}}", r"lora\.rank_pattern .* regular expressions"),
        ("base: b\ntraining: {lr: .nan}", r"training\.lr is nan, expected a number above 0"),
        ("base: b\ntraining: {lr: fast}", r"training\.lr is 'fast'"),
        ("base: b\ntraining: {warmup: 1}", r"training\.warmup is 1, .* from 0 on and below 1"),
        ("base: b\ntraining: {schedule: step}", r"expected one of constant, linear, cosine"),
        ("base: b\ntraining: {stack: all}", r"stack is 'all', expected one of auto, or a whole"),
        ("base: b\nhead: old", r"head is 'old', expected one of auto, new"),
        ("base: b\nstart: 3", r"start is 3, expected a path, .* or null"),
        ("base: b\ntraining: {generate: -1}", r"training\.generate is -1, expected a whole number"),
        ("base: b\ntraining: {eval_examples: 0}", r"eval_examples is 0, .* from 1 on, .*or null"),
        ("base: b\ntraining: {base_dropout: 0.1}", r"base_dropout is 0\.1, expected true or false"),
        ("base: b\ntraining: {mesh: {row: 2}}", r"mesh is .* names \(task, data, model\)"),
        ("base: b\ntraining: {epochs: 2, steps: 3}", r"training\.epochs is 2 and training\.steps"),
        ("base: b\ndtype: float16", r"dtype is 'float16', expected one of float32, bfloat16"),
        ("base: b\nbase: c", r"line 2, column 1: the key 'base' is given twice"),
        ("base: [b", r"is not valid YAML: line 1"),
        ("- base", r"holds \['base'\], expected names with values"),
        ("base: !!python/object/apply:os.system [ls]\n", r"is not valid YAML"),
        ("base: b\ntasks: {t: {lora: {dropout: .1}}}", r"tasks\.t\.lora\.dropout is given, but is"),
        ("base: b\ntasks: {t: {lora: {r: no}}}", r"tasks\.t\.lora\.r is 'no'"),
        ("base: b\ntasks: {t: {data: x}}", r"tasks\.t\.data is not a setting"),
        ("base: b\ntasks: {t: {lora: {seed: 1}}}", r"shared_init is true"),
        ("base: b\ntasks: {t: {training: {epochs: 1, steps: 1}}}", r"tasks\.t: training\.epochs"),
    ],
)
def test_what_cannot_be_used_is_named(write, text, said):
    with pytest.raises(RecipeError, match=said):
        read_recipe(write(text))


def test_a_missing_recipe_lists_the_shipped_ones(tmp_path):
    with pytest.raises(RecipeError, match=r"did you mean llama-3-8b\?.*mistral-7b, "):
        read_recipe("lama-3-8b")
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path)


def test_a_task_counts_steps_where_the_others_count_epochs():
    recipe = make_recipe({"base": "b", "tasks": {"t": {"training": {"steps": 5}}}}, "x")
    assert (recipe.training.epochs, recipe.training.steps) == (6, None)
    own = recipe.for_task("t").training
    assert (own.epochs, own.steps) == (None, 5)


def test_changes_are_checked_like_files():
    recipe = change(Recipe(base="b"), {"lora.r": 4, "training.steps": 9, "out": "o"}, "options")
    assert (recipe.lora.r, recipe.training.steps, recipe.training.epochs) == (4, 9, None)
    assert recipe.out == "o"
    with pytest.raises(RecipeError, match=r"options: lora\.r is 'x'"):
        change(recipe, {"lora.r": "x"}, "options")
    for key in ("training.speed", "lora.r.x", "other.base"):
        with pytest.raises(RecipeError, match=rf"options: {key} is not a setting"):
            change(recipe, {key: 1}, "options")


def test_shipped_recipes():
    assert shipped_recipes() == [
        "llama-3-8b",
        "llama-3-8b-instruct",
        "mistral-7b",
        "mistral-7b-instruct",
        "roberta-base",
    ]
    for name in shipped_recipes():
        recipe = read_recipe(name)
        assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout) == (8, 16.0, 0.05)
        assert recipe.lora.shared_init
        if name == "roberta-base":
            assert recipe.lora.targets == ("query", "value")
            continue
        assert recipe.lora.targets == ("q_proj", "v_proj")
        published = Training(epochs=6, batch=1, lr=4e-5, schedule="constant")
        assert recipe.training == published
        assert recipe.dtype == "bfloat16"
        assert recipe.prompt == ("chat" if name.endswith("instruct") else "plain")
