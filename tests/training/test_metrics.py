import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kinescribe.training.metrics import MetricsLog, read_lines


def test_metrics_are_lines_and_tensorboard_events(tmp_path: Path):
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, {"loss": 2.0})
    assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 2.0}]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(1, 2.0)]


def test_a_resumed_run_removes_metrics_after_its_checkpoint(tmp_path: Path):
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    time.sleep(1.1)  # files of events are named by the second, as another process would begin later
    with MetricsLog(tmp_path, 2) as log:
        log.write(3, {"loss": 30.0})
    assert [line["loss"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1.0, 2.0, 30.0]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [event.value for event in events] == [1.0, 2.0, 30.0]
