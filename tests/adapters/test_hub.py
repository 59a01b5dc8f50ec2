"""Adapters are fetched from a Hub: what is needed, nothing else, and every fault is one line."""

import json
import re
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from adapters.adapter_files import CONFIG, peft_tensors
from adapters.hub_server import serve
from jaxtask import AdapterError, load_adapters
from jaxtask.adapters import hub as _hub
from jaxtask.cli import main as cli
from shell import ENV

huggingface_hub = pytest.importorskip("huggingface_hub")
CONFIG_FILE, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter(scale=1.0, **more):
    tensors = {k: v * np.float32(scale) for k, v in peft_tensors().items()}
    return {
        CONFIG_FILE: json.dumps(CONFIG).encode(),
        WEIGHTS: save(tensors),
        "modeling.py": b"raise SystemExit('run')",
        "README.md": b"about it",
        "optimizer.pt": b"state",
        "training_args.bin": b"state",
        **{name.replace("__", "."): content for name, content in more.items()},
    }


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with serve() as (running, address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "x"), raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        running.address = address
        yield running
        close_session()


def fetch(source, **options):
    return load_adapters(source, download=True, **options)


def refused(source):
    """The one line of an error."""
    with pytest.raises(AdapterError) as error:
        fetch(source)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_fetches_what_is_needed_and_nothing_else(hub):
    hub.add("org/tuned", adapter())
    bank = fetch("org/tuned")
    assert bank.tasks == ("org/tuned",)
    assert hub.files() == [f"org/tuned:{CONFIG_FILE}", f"org/tuned:{WEIGHTS}"]
    # What is there is not fetched again, and is then read without the Hub.
    fetch("org/tuned")
    assert len(hub.files()) == 2
    asked = len(hub.log)
    load_adapters("org/tuned")
    assert len(hub.log) == asked


def test_nothing_is_asked_without_it(hub):
    hub.add("org/tuned", adapter())
    for source in ("org/tuned", "org/tu*", "org/tuned@v1"):
        with pytest.raises(AdapterError, match="nothing is downloaded without download=True"):
            load_adapters(source)
    assert hub.log == []


def test_a_new_commit_is_fetched(hub):
    hub.add("org/tuned", adapter())
    old = fetch("org/tuned").adapters[0].provenance["source"]
    hub.add("org/tuned", adapter(2.0))
    assert fetch("org/tuned").adapters[0].provenance["source"] != old
    assert hub.files().count(f"org/tuned:{WEIGHTS}") == 2


def without(files, *names, **more):
    left = {k: v for k, v in files.items() if k not in names}
    return left | {name.replace("__", "."): content for name, content in more.items()}


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapters.safetensors"])
def test_other_weights(hub, name):
    """What is fetched; that rubbish is not read is another's to say."""
    hub.add("org/tuned", without(adapter(), WEIGHTS) | {name: b"rubbish"})
    assert name in refused("org/tuned")
    assert hub.files() == [f"org/tuned:{CONFIG_FILE}", f"org/tuned:{name}"]


def test_shards(hub):
    tensors = peft_tensors()
    names = [f"adapter_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    place = {key: names[n % 2] for n, key in enumerate(tensors)}
    shards = {n: save({k: v for k, v in tensors.items() if place[k] == n}) for n in names}
    index = {"adapter_model.safetensors.index.json": json.dumps({"weight_map": place}).encode()}
    hub.add("org/tuned", without(adapter(), WEIGHTS) | shards | index)
    hub.add("org/one", adapter())
    bank = fetch(["org/tuned", "org/one"])
    assert {f for f in hub.files() if f.startswith("org/tuned")} == {
        f"org/tuned:{f}" for f in (CONFIG_FILE, *index, *names)
    }
    assert bank.adapters[0].modules.keys() == bank.adapters[1].modules.keys()


@pytest.mark.parametrize("file", ["../x.safetensors", "modeling.py", "a/b.safetensors", 7])
def test_an_index_names_shards_only(hub, file):
    index = {f"{WEIGHTS}.index.json": json.dumps({"weight_map": {"t": file}}).encode()}
    hub.add("org/tuned", without(adapter(), WEIGHTS) | index)
    assert "weight_map: the file" in refused("org/tuned")
    assert not [f for f in hub.files() if f.endswith((".py", "x.safetensors", "b.safetensors"))]


def test_a_pattern(hub, tmp_path):
    hub.page = 2
    for name in ("lora-b", "base", "lora-a", "other", "lora-full"):
        hub.add(f"org/{name}", adapter())
    hub.add("org/lora-full", {"config.json": b"{}", "model.safetensors": b"whole"})
    hub.add("organ/lora-c", adapter())
    bank = fetch("org/lora-*")
    assert list(bank.tasks) == ["org/lora-a", "org/lora-b"]
    assert "'org/lora-*' also matched org/lora-full, which is no adapter." in bank.notes
    assert sorted(hub.files()) == [
        f"org/lora-{n}:{f}" for n in "ab" for f in (CONFIG_FILE, WEIGHTS)
    ]
    asked = len(hub.log)
    assert list(load_adapters("org/lora-*").tasks) == ["org/lora-a", "org/lora-b"]
    assert len(hub.log) == asked
    assert "matches nothing on the Hub" in refused("org/none*")
    assert "matches only org/lora-full" in refused("org/lora-f*")


def test_a_pattern_leaves_out_what_cannot_be_had(hub):
    for name in ("lora-a", "lora-b", "lora-c"):
        hub.add(f"org/{name}", adapter())
    hub.answers["org/lora-b"] = (403, "GatedRepo")
    hub.add("org/lora-c", without(adapter(), CONFIG_FILE))
    text = refused("org/lora-*")
    assert "2 of 3 adapters cannot be read: org/lora-b: is gated" in text
    bank = fetch(["org/lora-*", "org/none"], skip_unreadable=True)
    assert bank.tasks == ("org/lora-a",)
    assert sum(note.startswith("skipped: org/") for note in bank.notes) == 3


def test_a_pattern_is_bounded(hub, monkeypatch):
    monkeypatch.setattr(_hub, "MAX_REPOSITORIES", 3)
    for n in range(4):
        hub.add(f"org/lora-{n}", adapter())
    assert "over 3 repositories" in refused("org/lora-*")
    assert hub.files("HEAD") == []
    assert len(fetch("org/lora-[012]").tasks) == 3


def test_revisions(hub):
    hub.add("org/tuned", adapter(1.0), "v1")
    hub.add("org/tuned", adapter(2.0), "refs/pr/1")
    hub.add(
        "org/tuned", adapter(1.0) | {CONFIG_FILE: json.dumps({**CONFIG, "lora_alpha": 1}).encode()}
    )
    bank = fetch(["org/tuned@v1", "org/tuned@refs/pr/1", "org/tuned"])
    assert list(bank.tasks) == ["org/tuned@v1", "org/tuned@refs/pr/1", "org/tuned"]
    assert len(load_adapters(["org/tuned@v1", "org/tuned"]).tasks) == 2
    assert "has no revision 'v9'" in refused("org/tuned@v9")
    with pytest.raises(AdapterError, match="was given twice"):
        fetch(["org/tuned", "org/tuned"])


@pytest.mark.parametrize("name", ["org/a@../b", "org/a@", "org/a@\x1b[2J", "org/a@/x"])
def test_no_revision(hub, name):
    assert "is no revision" in refused(name)
    assert hub.log == []


@pytest.mark.parametrize("name", ["org/../a", "../org/a", "org/a\x1b[2J", "org/a b", "or\ng/a*"])
def test_no_id(hub, name):
    with pytest.raises(AdapterError):
        fetch(name)
    assert hub.log == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((401, "RepoNotFound"), "there is no such model .* or it is private"),
        ((401, "GatedRepo"), "is gated: ask for access at"),
        ((403, "GatedRepo"), "is gated: ask for access at"),
        ((403, ""), "HTTP 403.*: log in"),
        ((404, ""), "HTTP 404.*: check the name"),
        ((429, ""), "HTTP 429.*: too many requests"),
        ((503, ""), "HTTP 503.*: try again later"),
        ((200, "<html>Log in</html>"), "does not answer as a Hugging Face Hub"),
        ((200, "[1]"), "does not answer as a Hugging Face Hub"),
        ((200, '{"id": "org/tuned", "siblings": [3]}'), "does not answer as a Hugging Face Hub"),
    ],
)
def test_refusals(hub, answer, told):
    hub.answers["org/tuned"] = answer
    text = refused("org/tuned")
    assert text.startswith("org/tuned: ")
    assert re.search(told, text)


def test_no_adapter(hub):
    hub.add("org/base", {"config.json": b"{}", "model.safetensors": b"whole", "x.py": b""})
    assert "is no adapter on the Hub: expected adapter_config.json" in refused("org/base")
    hub.add("org/bare", without(adapter(), CONFIG_FILE))
    assert "has adapter_model.safetensors but no adapter_config.json" in refused("org/bare")
    hub.add("org/deep", {f"checkpoint-1/{n}": c for n, c in adapter().items()})
    assert "no adapter at its root on the Hub, but in 'checkpoint-1'" in refused("org/deep")
    assert "there is no such model" in refused("org/absent")
    assert hub.files() == []


def test_a_cut_connection_is_resumed(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    hub.add("org/tuned", adapter())
    hub.cut[WEIGHTS] = 100
    assert len(fetch("org/tuned").tasks) == 1
    assert f"RANGE {WEIGHTS} 100" in hub.log


def test_out_of_reach(hub, monkeypatch):
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    hub.add("org/tuned", adapter())
    fetch("org/tuned")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in refused("org/other")
    assert "http://127.0.0.1:9 cannot be reached" in refused("org/o*")
    (one,) = fetch("org/tuned").adapters
    assert "the cached copy was read: org/tuned: http://127.0.0.1:9" in one.provenance["notes"][0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()
    assert "HF_HUB_OFFLINE is set" in refused("org/other")
    assert len(fetch("org/tuned").tasks) == 1
    for wrong in ("127.0.0.1:9", "http://127.0.0.1:999999"):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", wrong)
        assert "cannot be reached" in refused("org/other")


def test_a_cache_that_cannot_be_written(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    hub.add("org/tuned", adapter())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))  # as a disk that is full
    try:
        text = refused("org/tuned")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "org/tuned: the cache cannot be written: " in text
    (one,) = fetch("org/tuned").adapters
    hub.add("org/tuned", adapter(2.0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limit[1]))
    try:
        (old,) = fetch("org/tuned").adapters
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert old.provenance["source"] == one.provenance["source"]
    assert "the cached copy was read: org/tuned: the cache cannot be" in old.provenance["notes"][0]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    assert "the cache cannot be written: " in refused("org/tuned")


def test_every_command_that_reads_adapters(hub, tmp_path):
    hub.add("org/tuned", adapter())
    hub.add("org/other", adapter(2.0))
    commands = [
        ["inspect", "org/tuned"],
        ["compare", "org/tuned", "org/other", "--metrics", "cosine"],
        ["export", "org/tuned", "--out", str(tmp_path / "out"), "--format", "mlx"],
    ]
    for command in commands:
        done = CliRunner().invoke(cli.app, [*command, "--download", "--json"])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "adapters.safetensors").is_file()


@pytest.mark.process
def test_command_line(hub, tmp_path, monkeypatch, capsys):
    hub.add("org/a", adapter())
    hub.add("org/b", adapter(2.0))
    env = {k: v for k, v in ENV.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "jaxtask", "inspect", "--json", "--download", "org/*"]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert [one["name"] for one in json.loads(done.stdout)["adapters"]] == ["org/a", "org/b"]
    assert done.stderr == ""
    assert len(hub.files()) == 4
    assert (tmp_path / "home" / "hub" / "models--org--a" / "refs" / "main").is_file()

    monkeypatch.setattr(sys, "argv", ["jaxtask", "inspect", "org/c"])
    monkeypatch.setattr(cli.interrupts, "install", lambda: None)
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "nothing is downloaded without --download" in told
