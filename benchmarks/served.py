"""Labelled pairs/s with a model on a server that takes a second for each answer; one line of JSON.

`share` is the rate at which the server was asked, from its first to its last question, over the concurrency:
1 is a server that never waits for us. The clips are simulated, and decoded, encoded and committed as always.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kinescribe.cluster.label import run_label
from kinescribe.cluster.progress import LabelProgress
from kinescribe.schemas.config import LabelConfig, Resources
from kinescribe.simulation.clips import write_clips

LATENCY_S = 1.0
CHOICE = {"message": {"content": "Move the ball left."}, "finish_reason": "stop"}


def serve(pipe: Connection) -> None:
    """A server that answers each question after a second; sends its port, then the times of the questions."""
    asked: list[float] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await head(reader):
            length = next((int(v) for k, v in header.items() if k == "content-length"), 0)
            await reader.readexactly(length)
            body = json.dumps({"data": [{"id": "mock"}]})
            if length:
                asked.append(time.perf_counter())
                await asyncio.sleep(LATENCY_S)
                body = json.dumps({"choices": [CHOICE]})
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        pipe.send(asked)

    asyncio.run(main())


async def head(reader: asyncio.StreamReader) -> dict[str, str]:
    """The header of the next request, empty at the end."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[1:]
    except (asyncio.IncompleteReadError, ConnectionError):
        return {}
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def measure(clips: Path, folder: Path, concurrency: int) -> dict[str, Any]:
    """The rate with one label worker that sends so many requests at once."""
    ours, theirs = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=serve, args=(theirs,))
    server.start()
    try:
        config = LabelConfig(dynamics=f"mock@http://127.0.0.1:{ours.recv()}/v1")
        resources = Resources(label_workers=1, concurrency=concurrency)
        run_label(str(clips), str(folder / str(concurrency)), config, resources, LabelProgress())
        ours.send(None)
        asked = sorted(ours.recv())[1:]  # the first was asked before the run
    finally:
        server.terminate()
        server.join()
    pairs_per_s = len(asked) / (asked[-1] + LATENCY_S - asked[0])
    return {"pairs": len(asked), "pairs_per_s": pairs_per_s, "share": pairs_per_s / concurrency}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 16, 32])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), options.clips, "train", 0)
        results = {
            str(concurrency): measure(Path(folder, "clips"), Path(folder), concurrency)
            for concurrency in options.concurrency
        }
    machine = {"cores": os.cpu_count(), "processor": platform.machine()}
    print(json.dumps({"latency_s": LATENCY_S, "concurrency": results, "machine": machine}))


if __name__ == "__main__":
    main()
