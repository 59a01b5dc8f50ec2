"""Every kind of input: a good file of it, how it is changed, and how the commands read it."""

import gzip
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz import mutate


@dataclass(frozen=True)
class Kind:
    """One kind of input."""

    make: Callable[[Path], None]
    """Writes good files into a folder."""
    files: str
    """Those that are changed, as a pattern; one of them in every mutant."""
    read: Callable[[Path], None]
    """Reads them, as the commands do; `folder / "out"` is where it may write."""
    aware: Callable | None = None
    """How they are changed as what they are; see `fuzz.mutate`."""
    head: int | None = None
    """Bytes from here on are numbers of weights, and rarely changed."""
    chunks: bool = False
    """Whether errors of libraries are the reader's, which the command line puts in one line."""

    share: int = 1
    """One in so many mutants is read: it takes long."""

    def mutant(self, file, good, chance):
        """What the file holds in a mutant."""
        aware = mutate.of_json if file.suffix == ".json" else self.aware
        if aware is not None and chance.random() < 0.6:
            if aware in (mutate.of_zip, mutate.of_header):
                return aware(good, chance)
            return aware(good.decode(), chance).encode(errors="surrogatepass")
        if self.head is None or chance.random() < 0.1:
            return mutate.of_bytes(good, chance)
        return mutate.of_bytes(good[: self.head], chance) + good[self.head :]


def _make_adapter(folder):
    from safetensors.numpy import save_file

    from adapters.adapter_files import CONFIG, WEIGHTS, peft_tensors

    (folder / "a").mkdir()
    save_file(peft_tensors(), folder / "a" / WEIGHTS, {"format": "pt"})
    more = {"rank_pattern": {"1.self_attn.q_proj": 4}, "alpha_pattern": {"^q_proj": 2.0}}
    plain = {"use_rslora": False, "bias": "none", "fan_in_fan_out": False, "layers_pattern": None}
    config = {**CONFIG, **more, **plain, "modules_to_save": None, "task_type": "CAUSAL_LM"}
    (folder / "a" / "adapter_config.json").write_text(json.dumps(config))


def _make_bin(folder):
    import pytest

    from adapters.adapter_files import WEIGHTS, peft_tensors
    from adapters.torch_files import Tensor, torch_saver

    _make_adapter(folder)
    (folder / "a" / WEIGHTS).unlink()
    with pytest.MonkeyPatch.context() as patch:
        state = {name: Tensor(tensor) for name, tensor in peft_tensors().items()}
        torch_saver(patch)(state, folder / "a" / "adapter_model.bin")


def _make_kohya(folder):
    from safetensors.numpy import save_file

    from adapters.test_kohya import tensors

    save_file(tensors(), folder / "a.safetensors", {"ss_network_dim": "4", "ss_network_alpha": "1"})


def _make_mlx(folder):
    from safetensors.numpy import save_file

    from adapters.test_mlx import MLX, UP, pair

    (folder / "a").mkdir()
    save_file(pair() | pair(UP), folder / "a" / "adapters.safetensors")
    (folder / "a" / "adapter_config.json").write_text(json.dumps(MLX))


def _make_diffusers(folder):
    from safetensors.numpy import save_file

    from adapters.test_diffusers import TEXT, UNET, pair

    told = {
        f"{part}.{name}": 4 for part in ("unet", "text_encoder") for name in ("r", "lora_alpha")
    }
    told |= {"unet.rank_pattern": {"attn2": 2}, "unet.alpha_pattern": {"attn1.to_q": 1.5}}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(told)}
    save_file(pair(UNET) | pair(TEXT), folder / "a.safetensors", metadata)


def _make_sharded(folder):
    _make_adapter(folder)
    _shard(folder / "a" / "adapter_model.safetensors")


def _shard(file):
    """Cut a safetensors file in two, with an index beside them."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(file)
    file.unlink()
    where = {name: f"{file.stem}-{1 + n % 2}.safetensors" for n, name in enumerate(tensors)}
    for part in set(where.values()):
        save_file({n: t for n, t in tensors.items() if where[n] == part}, file.parent / part)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    file.with_suffix(".safetensors.index.json").write_text(json.dumps(index))


def _make_origin(folder):
    from jaxtask.adapters.export import export_adapter

    _make_adapter(folder)
    export_adapter(folder / "a", folder / "b")
    about = json.loads((folder / "b" / "jaxtask.json").read_text())
    module = {"kind": "conv1d", "kept": 0.5, "rank": 4}
    told = {"excluded": {"x": "y"}, "notes": ["z"], "approximate": "a part"}
    about["extracted"] = {**told, "modules": {"model.layers.0.self_attn.q_proj": module}}
    (folder / "a" / "jaxtask.json").write_text(json.dumps(about))
    shutil.rmtree(folder / "b")


def _export(folder):
    from jaxtask.adapters.export import export_adapter

    _read_adapters(folder)
    export_adapter(folder / "a", folder / "out", format="mlx")


def _read_adapters(folder):
    from jaxtask.adapters import load_adapters

    (found,) = [path for path in folder.iterdir() if path.name[0] == "a"]
    bank = load_adapters(found)
    bank.describe()
    for adapter in bank.adapters:
        for module in adapter.modules:
            adapter.load(module)


def _make_result(folder, names="ab"):
    import numpy as np

    import jaxtask as jt

    draw = np.random.default_rng(0)
    bank = jt.AdapterBank.from_factors(
        {
            name: {
                f"layers.{n}.q": (draw.standard_normal((9, 2)), draw.standard_normal((2, 8)))
                for n in range(2)
            }
            for name in names
        }
    )
    metrics = ["grassmann", "cosine", "rec"]
    jt.compare(bank, metrics=metrics, out=folder / "r.zarr", keep=["spectra", "chance"])


def _make_zip(folder):
    _make_result(folder)
    shutil.make_archive(str(folder / "r"), "zip", folder / "r.zarr")
    shutil.rmtree(folder / "r.zarr")


def _read_result(folder):
    import jaxtask as jt
    from jaxtask.analysis import poolable
    from jaxtask.cli.tables import pooled_json, pooled_tables

    (path,) = folder.glob("r.*")
    with jt.open_result(path) as ds:
        for values in ds.variables.values():
            values.load()
        pooled_json(ds, poolable(ds))
        list(pooled_tables(ds, poolable(ds)))


def _analyze_result(folder):
    import jaxtask as jt

    with jt.open_result(folder / "r.zarr") as ds:
        jt.analyze(ds, permutations=9)


def _make_findings(folder):
    import jaxtask as jt
    from jaxtask.report.findings import write_findings

    _make_result(folder, "abc")
    groups = {"x": ["a", "b"], "y": ["c"]}
    with jt.open_result(folder / "r.zarr") as ds:
        write_findings(jt.analyze(ds, groups, permutations=9), folder / "found")


def _read_findings(folder):
    import jaxtask as jt
    from jaxtask.analysis.findings import check_origin
    from jaxtask.report.page import write_page

    findings = jt.read_findings(folder / "found")
    with jt.open_result(folder / "r.zarr") as ds:
        check_origin(findings, ds)
        (folder / "out").mkdir()
        write_page(ds, findings, folder / "out" / "page.html")


def _make_conll(folder):
    from corpora.story import COLUMNS

    (folder / "c.conll").write_text(COLUMNS)


def _make_gzip(folder):
    from corpora.story import COLUMNS

    (folder / "c.conll.gz").write_bytes(gzip.compress(COLUMNS.encode(), mtime=0))


def _make_records(folder):
    from corpora.hub_records import record
    from corpora.story import story

    rows = [record(story(id=name), "english_v12") for name in ("a", "b")]
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


TASKS = ("ner", "coref", "syntax", "srl", "first10-sent", "every2-word")


def _read_corpus(folder):
    from jaxtask.corpora import build_tasks

    (file,) = folder.glob("c.*")
    build_tasks(TASKS, {"train": [file]}, folder / "out")


def _make_summaries(folder):
    _make_conll(folder)
    rows = [{"document_id": name, "summary": "Mary slept."} for name in ("gum/news/story", "b")]
    (folder / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _read_summaries(folder):
    from jaxtask.corpora import build_tasks

    corpus = {"train": [folder / "c.conll"]}
    build_tasks(["sum"], corpus, folder / "out", summaries=folder / "s.jsonl")


ROWS = [
    ("text", "text_pair", "label"),
    ("one, two", 'a "b"', "x"),
    ("3", "é", "y"),
    ("b", "4", "x"),
]


def _make_csv(folder):
    import csv

    with open(folder / "t.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(ROWS)


def _make_tsv(folder):
    text = "".join("\t".join(row) + "\n" for row in ROWS)
    (folder / "t.tsv").write_text(text, encoding="utf-8")


def _make_table(folder):
    rows = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _make_parquet(folder):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")


def _read_table(folder):
    from jaxtask.corpora import build_table

    (file,) = folder.glob("t.*")
    build_table("t", {"train": file}, folder / "out", text_pair="text_pair")


def _make_text(folder):
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    parts = [{"from": "human", "value": [{"type": "text", "text": "c"}]}]
    rows = [{"messages": said}, {"messages": [*parts, {"from": "gpt", "value": "d"}, *said]}]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _make_array(folder):
    rows = [{"instruction": x, "input": y, "output": z} for x, y, z in ("abc", "bcd", "cd1")]
    (folder / "t.json").write_text(json.dumps(rows, indent=1))


def _read_text(folder):
    from jaxtask.corpora import build_text

    (file,) = folder.glob("t.*")
    build_text("t", {"train": file}, folder / "out", dev_share=0.5)


def _make_task(folder):
    from finetune.data_files import write_task

    text = {"instruction": "a", "text": "b", "target": "c"}
    write_task(folder / "text", [text, text], dev=[text], name="text", command="x")
    labelled = [{"text": "b", "label": "c"}, {"text": "b", "label": "d", "text_pair": "e"}]
    write_task(folder / "labels", labelled, "classification", ["c", "d"])
    write_task(folder / "numbers", [{"text": "b", "label": 1.5}], "regression")


def _read_task(folder):
    from jaxtask.finetune.data.task_data import read_task

    for name in ("text", "labels", "numbers"):
        read_task(folder / name)


def _make_recipe(folder):
    from importlib import resources

    recipe = resources.files("jaxtask.finetune.recipe") / "shipped" / "llama-3-8b-instruct.yaml"
    (folder / "r.yaml").write_text(recipe.read_text(encoding="utf-8"), encoding="utf-8")


def _read_recipe(folder):
    from jaxtask.finetune.recipe.files import read_recipe

    read_recipe(folder / "r.yaml")


def _make_groups(folder):
    (folder / "g.yaml").write_text("linguistic: [ner, coref, 7]\ncounting:\n  - first10-sent\n")


def _read_groups(folder):
    from jaxtask.cli.analyze import read_groups

    read_groups(folder / "g.yaml")


def _make_experiment(folder):
    from importlib import resources

    talk = resources.files("jaxtask.reproduce") / "experiments" / "talk.yaml"
    (folder / "e.yaml").write_text(talk.read_text(encoding="utf-8"), encoding="utf-8")


def _read_experiment(folder):
    from jaxtask.reproduce.experiment import read_experiment

    given = read_experiment(str(folder / "e.yaml"))
    given.recipe_for("base", ["data"], "out", 0)


def _make_base(folder):
    from finetune.tiny import LLAMA, model
    from jaxtask.finetune.models.load import save_model

    save_model(model(LLAMA), folder / "base")


def _make_shards(folder):
    _make_base(folder)
    _shard(folder / "base" / "model.safetensors")


def _read_base(folder):
    from jaxtask.finetune.models.load import load_model

    load_model(folder / "base", "float32")


def _make_tokenizer(folder):
    from finetune.data_files import LLAMA_CHAT, byte_tokenizer

    byte_tokenizer(chat_template=LLAMA_CHAT).save_pretrained(folder / "base")


def _make_spaced(folder):
    from finetune.data_files import MISTRAL_CHAT, spaced_tokenizer

    spaced_tokenizer(chat_template=MISTRAL_CHAT).save_pretrained(folder / "base")


def _read_tokenizer(folder, name="base"):
    from jaxtask.finetune.data.tokens import Tokens, open_tokenizer

    tokens = Tokens(open_tokenizer(folder / name))
    tokens.encode(["Hello <s>"], special=True)
    tokens.ends([2])
    tokens.begin  # noqa: B018


def _make_gguf(folder):
    from finetune.test_gguf import WIDE, write
    from finetune.tiny import model

    write(folder / "m.gguf", model(WIDE))


def _read_gguf(folder):
    from jaxtask.finetune.models.load import load_model

    load_model(folder / "m.gguf", "float32")


def _make_gguf_tokenizer(folder):
    from finetune.data_files import byte_tokenizer
    from finetune.test_gguf_tokenizer import write

    write(folder / "m.gguf", byte_tokenizer())


def _read_gguf_tokenizer(folder):
    _read_tokenizer(folder, "m.gguf")


def _make_template(folder):
    text = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set text = messages[0].content "
        "%}{% set messages = messages[1:] %}{% else %}{% set text = 'You help' * 2 %}{% endif %}"
        "{% for m in messages %}{% if loop.index0 % 2 == 1 and m.role == 'user' %}{{ raise_"
        "exception('turns') }}{% endif %}<|{{ m.role }}|>\n{{ m.content | trim | replace('a', 'b') "
        "}}{{ '-' * 3 }}<|eot|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n"
        "{{ messages | tojson }}{% for n in range(3) %}{{ n ** 2 }}{% endfor %}{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(text)


def _read_template(folder):
    from jaxtask.finetune.data.chat import Conversation, render

    template = (folder / "chat_template.jinja").read_bytes().decode(errors="replace")
    asked = [Conversation([{"role": "user", "content": "hi"}], "task, line 1", True)]
    render(template, {"bos_token": "<s>", "eos_token": "</s>"}, asked, "base")


def fork_templates():
    """Have chat templates rendered by a fork of this process, which has Jinja, not by a new one.

    The program, its limits and its messages are the same; it starts in milliseconds. Only for a
    process without JAX, whose address space is above the program's bound already.
    """
    import jinja2.ext
    import jinja2.sandbox  # noqa: F401

    from jaxtask.finetune.data import _render, chat

    def run(asked, seconds):
        shutil.rmtree("ask", ignore_errors=True)
        os.mkdir("ask")
        Path("ask/in").write_text(json.dumps(asked))
        child = os.fork()
        if child == 0:
            with open("ask/in") as given, open("ask/out", "w") as told, open("ask/err", "w") as bad:
                sys.stdin, sys.stdout, sys.stderr = given, told, bad
                try:
                    _render.main()
                    told.flush()
                    status = 0
                except BaseException as error:  # noqa: BLE001
                    print(f"{type(error).__name__}: {error}", file=bad)
                    status = 1
                os._exit(status)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                break
            time.sleep(0.001)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"error": f"it has not ended after {seconds:g} seconds", "at": None}
        text = Path("ask/out").read_text()
        if status or not text:
            said = Path("ask/err").read_text().splitlines()
            return {"error": said[-1] if said else f"ended with {status}", "at": None}
        return json.loads(text)

    chat._run = run


def _raise(folder):
    if (folder / "x").read_bytes() != b"x":
        raise KeyError("x")


def _hang(folder):
    while (folder / "x").read_bytes() != b"x":
        pass


def _die(folder):
    if (folder / "x").read_bytes() != b"x":
        os.kill(os.getpid(), signal.SIGSEGV)


def _grow(folder):
    if (folder / "x").read_bytes() != b"x":
        bytearray(b"x") * (9 * 10**7)


def _write(folder):
    if (folder / "x").read_bytes() != b"x":
        (folder.parent.parent / "fuzz-elsewhere").touch()
        (folder.parent.parent / "fuzz-elsewhere").unlink()


def _leave(folder):
    from jaxtask.errors import JaxtaskError

    if (folder / "x").read_bytes() != b"x":
        (folder / "half").touch()
        raise JaxtaskError("no")


def _tell(folder):
    from jaxtask.errors import JaxtaskError

    if (folder / "x").read_bytes() != b"x":
        raise JaxtaskError("two\nlines")


def _tell_all(folder):
    from jaxtask.errors import JaxtaskError

    if (folder / "x").read_bytes() != b"x":
        raise JaxtaskError("x" * 1000)


def _make_x(folder):
    (folder / "x").write_text("x")


WEIGHTS = {"aware": mutate.of_header, "head": 1200}
KINDS = {
    "adapter weights": Kind(_make_adapter, "a/*.safetensors", _read_adapters, **WEIGHTS),
    "adapter_config.json": Kind(_make_adapter, "a/*.json", _read_adapters),
    "adapter .bin": Kind(_make_bin, "a/*.bin", _read_adapters, mutate.of_zip),
    "adapter index": Kind(_make_sharded, "a/*.index.json", _read_adapters),
    "jaxtask.json": Kind(_make_origin, "a/jaxtask.json", _export),
    "mlx": Kind(_make_mlx, "a/*", _read_adapters, **WEIGHTS),
    "diffusers": Kind(_make_diffusers, "a.safetensors", _read_adapters, **WEIGHTS),
    "kohya": Kind(_make_kohya, "a.safetensors", _read_adapters, **WEIGHTS),
    "result": Kind(_make_result, "r.zarr/**/*", _read_result, chunks=True),
    "findings": Kind(_make_findings, "found/findings.json", _read_findings),
    "result, analyzed": Kind(_make_result, "r.zarr/**/*", _analyze_result, chunks=True, share=4),
    "result zip": Kind(_make_zip, "r.zip", _read_result, mutate.of_zip, chunks=True),
    "conll": Kind(_make_conll, "c.conll", _read_corpus, mutate.of_words),
    "conll gzip": Kind(_make_gzip, "c.conll.gz", _read_corpus),
    "hub records": Kind(_make_records, "c.jsonl", _read_corpus, mutate.of_lines),
    "summaries": Kind(_make_summaries, "s.jsonl", _read_summaries, mutate.of_lines),
    "csv": Kind(_make_csv, "t.csv", _read_table, mutate.of_words),
    "tsv": Kind(_make_tsv, "t.tsv", _read_table, mutate.of_words),
    "parquet": Kind(_make_parquet, "t.parquet", _read_table),
    "json lines": Kind(_make_table, "t.jsonl", _read_table, mutate.of_lines),
    "conversations": Kind(_make_text, "t.jsonl", _read_text, mutate.of_lines),
    "json array": Kind(_make_array, "t.json", _read_text),
    "task.json": Kind(_make_task, "*/task.json", _read_task),
    "task lines": Kind(_make_task, "*/*.jsonl", _read_task, mutate.of_lines),
    "recipe": Kind(_make_recipe, "r.yaml", _read_recipe, mutate.of_yaml),
    "groups": Kind(_make_groups, "g.yaml", _read_groups, mutate.of_yaml),
    "experiment": Kind(_make_experiment, "e.yaml", _read_experiment, mutate.of_yaml),
    "config.json": Kind(_make_base, "base/config.json", _read_base),
    "model weights": Kind(_make_base, "base/*.safetensors", _read_base, mutate.of_header, 2500),
    "model index": Kind(_make_shards, "base/*.index.json", _read_base),
    "gguf": Kind(_make_gguf, "m.gguf", _read_gguf, head=2600),
    "gguf tokenizer": Kind(_make_gguf_tokenizer, "m.gguf", _read_gguf_tokenizer),
    "tokenizer.json": Kind(_make_tokenizer, "base/tokenizer.json", _read_tokenizer),
    "tokenizer.json, spaced": Kind(_make_spaced, "base/tokenizer.json", _read_tokenizer),
    "tokenizer_config.json": Kind(_make_tokenizer, "base/tokenizer_config.json", _read_tokenizer),
    "chat template": Kind(_make_template, "*.jinja", _read_template, mutate.of_words),
}
FAULTS = {
    function.__name__: Kind(_make_x, "x", function)
    for function in (_raise, _hang, _die, _grow, _write, _leave, _tell, _tell_all)
}
"""Readers that break the rule, each in its own way: what a hunt must find."""
