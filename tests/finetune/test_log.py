"""The log of a run and its display."""

import io
import json

import pytest
from rich.console import Console

from jaxtask.errors import TrainingError
from jaxtask.finetune.training.log import MetricsLog, read_log
from jaxtask.finetune.training.progress import TaskView, View, live, render


def test_events_are_there_at_once(tmp_path):
    path = tmp_path / "work" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write("train", 1, loss={"ner": 0.5})
        (event,) = read_log(path)
        log.write("eval", 2)
    assert event["event"] == "train"
    assert (event["step"], event["loss"]) == (1, {"ner": 0.5})
    assert [e["event"] for e in read_log(path)] == ["train", "eval"]


def test_a_resumed_run_drops_what_happens_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in range(1, 6):
            log.write("train", step)
    with path.open("a") as file:
        file.write('{"event": "tra')
    with MetricsLog(path, after=3) as log:
        log.write("train", 4)
    assert [e["step"] for e in read_log(path)] == [1, 2, 3, 4]
    with MetricsLog(path):
        pass
    assert read_log(path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_what_is_no_log_is_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"my": "file"}) + "\n")
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: is no log of a run"):
        MetricsLog(path, after=0)
    assert json.loads(path.read_text()) == {"my": "file"}
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        MetricsLog(tmp_path / "file" / "metrics.jsonl")


VIEW = View(
    step=30,
    total=120,
    tokens_per_second=1234.5,
    seconds_left=3725,
    tasks=(
        TaskView("ner", 30, 120, 0.51234, 0.6, 0.55),
        TaskView("sum", 12, 12, ended="finished"),
    ),
)


def printed(thing):
    console = Console(width=100, file=io.StringIO())
    console.print(thing)
    return console.file.getvalue()


def test_display():
    text = printed(render(VIEW))
    for part in ("step 30 of 120", "1,234 tokens/s", "1:02:05 left", "0.5123", "0.6000", "12/12"):
        assert part in text
    lines = text.splitlines()
    assert lines[-1].split() == ["sum", "12/12", "–", "–", "–", "finished"]
    assert "– tokens/s" in printed(render(View(0, 0, None, None, ())))


def test_live_display_prints_the_last_view_elsewhere():
    console = Console(width=100, file=io.StringIO())
    with live(console) as show:
        show(View(1, 2, None, None, ()))
        show(VIEW)
    text = console.file.getvalue()
    assert "step 30 of 120" in text
    assert "step 1 of 2" not in text


def test_what_comes_after_an_error_has_its_own_line():
    console = Console(width=100, file=io.StringIO())

    def fail():
        with live(console) as show:
            show(VIEW)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert console.file.getvalue().endswith("\n")
