"""Progress in a notebook: a real kernel draws the bar, and leaves the line with the metrics."""

from __future__ import annotations

import time
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

PROGRAM = """
from fengine import Loop, outputs
from fengine.features import progress
from fengine.metrics import mean
loop = Loop(outputs(float)) | mean("loss") | progress("loss")
final = loop.run([1, 2, 3], max_epochs=2)
"""
MOST_SECONDS = 60


@pytest.mark.filterwarnings("ignore")  # what the client imports has warnings of its own
def test_a_notebook_shows_a_bar_and_lines() -> None:
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=MOST_SECONDS)
    try:
        said = ""
        request = client.execute(PROGRAM)
        until = time.monotonic() + MOST_SECONDS
        while time.monotonic() < until:
            message: Any = client.get_iopub_msg(timeout=MOST_SECONDS)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            assert message["msg_type"] != "error", content
            if message["msg_type"] == "stream":
                assert content["name"] == "stderr"
                said += content["text"]
            if content.get("execution_state") == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "epoch 1/2:" in said
    assert "\r" in said
    assert "epoch 1/2  iteration 3  loss 2\n" in said
    assert said.endswith("epoch 2/2  iteration 6  loss 2\n")
