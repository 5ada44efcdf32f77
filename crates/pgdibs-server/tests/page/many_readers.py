"""Measures an acquire with and without 50 open pages, by turns, against one daemon: `page-tests.sh --figures`. Prints medians.

A reader does what the script of the page does: it follows /v1/events, and fetches the page at most twice a second.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import statistics
import sys
import time
from multiprocessing.synchronize import Event

from stage import Stage, until

READERS = 50
TURNS = 6
GOAL = 1.2
ACQUIRES = 150
PAUSE_SECONDS = 0.5


async def read_page(host: str, port: int, token: str) -> None:
    """One open page, until it is cancelled."""
    head = f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    events, ask = await asyncio.open_connection(host, port)
    ask.write(f"GET /v1/events HTTP/1.1\r\n{head}".encode())
    reader, writer = await asyncio.open_connection(host, port)
    while True:
        await events.read(65536)
        writer.write(f"GET / HTTP/1.1\r\n{head}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        await asyncio.sleep(PAUSE_SECONDS)


def read_pages(host: str, port: int, token: str, ready: Event) -> None:
    """Many open pages, in a process of their own, until it is ended."""

    async def all_of_them() -> None:
        readers = [asyncio.create_task(read_page(host, port, token)) for _ in range(READERS)]
        await asyncio.sleep(1)
        ready.set()
        await asyncio.gather(*readers)

    asyncio.run(all_of_them())


def acquire(stage: Stage) -> list[float]:
    """How long each acquire takes, in milliseconds; a test of 20 ms follows each."""
    connection = http.client.HTTPConnection(stage.url.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {stage.token}", "Content-Type": "application/json"}
    taken = []
    for _ in range(ACQUIRES):
        began = time.perf_counter()
        connection.request("POST", "/v1/leases", json.dumps({"pool": "shop_test", "wait_seconds": 30}), headers)
        lease = json.loads(connection.getresponse().read())
        taken.append((time.perf_counter() - began) * 1000)
        # The test that has the database.
        time.sleep(0.02)
        connection.request("DELETE", f"/v1/leases/{lease['id']}", headers=headers)
        connection.getresponse().read()
    return taken


def main() -> int:
    stage = Stage()
    try:
        stage.pool("shop_test", warm=8, max=16, spares=4)
        until("the pool is warm", lambda: stage.call("GET", "/v1/pools/shop_test")["counts"]["ready"] >= 8)
        host, port = stage.url.removeprefix("http://").split(":")
        acquire(stage)
        alone: list[list[float]] = []
        watched: list[list[float]] = []
        for _ in range(TURNS):
            alone.append(acquire(stage))
            ready = multiprocessing.Event()
            readers = multiprocessing.Process(target=read_pages, args=(host, int(port), stage.token, ready), daemon=True)
            readers.start()
            ready.wait(30)
            watched.append(acquire(stage))
            readers.terminate()
            readers.join()
        p50 = {}
        for name, turns in (("alone", alone), (f"{READERS} pages", watched)):
            p50[name] = statistics.median(each for turn in turns for each in turn)
            by_turn = ", ".join(f"{statistics.median(turn):.2f}" for turn in turns)
            print(f"{name}: acquire p50 {p50[name]:.2f} ms (by turn: {by_turn})")
        ratios = [statistics.median(two) / statistics.median(one) for one, two in zip(alone, watched)]
        print(f"ratio: median {statistics.median(ratios):.2f}, by turn {min(ratios):.2f} to {max(ratios):.2f}; goal {GOAL}")
    finally:
        stage.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
