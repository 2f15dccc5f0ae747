"""Thousands of calls at once in a process that may open few files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from matfn import wire
from scripted_socket import Conversation, ScriptedServer, answered, http_response

CALLS, DESCRIPTORS = 2000, 256
# the asynchronous client's calls are just too large to share requests
ORDERS = {"threads": 2, "submit": 2, "tasks": 92}

BEGIN = f"""
import asyncio, json, resource, sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import matfn

resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))
m, calls = np.eye(int(sys.argv[2])), range({CALLS})
def told(answers):
    print(json.dumps([len(answers), all(np.array_equal(answer, m) for answer in answers)]))
"""
WAYS = {
    "threads": """
with matfn.Client(sys.argv[1]) as client, ThreadPoolExecutor(400) as threads:
    told(list(threads.map(lambda _: client.msign(m), calls)))
""",
    "submit": """
with matfn.Client(sys.argv[1]) as client:
    told([answer for _, answer in client.as_completed(matfn.call.msign(m) for _ in calls)])
""",
    "tasks": """
async def main():
    async with matfn.AsyncClient(sys.argv[1]) as client:
        told(await asyncio.gather(*(client.msign(m) for _ in calls)))
asyncio.run(main())
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_all_calls_are_answered(way: str) -> None:
    """Calls beyond the connections that a client may have wait for one, and none fails for want of a descriptor."""
    order = ORDERS[way]
    call = wire.Call("msign", {"m": wire.Tensor("float64", (order, order), np.eye(order).tobytes())}, {}, {})
    answer = http_response(b"".join(wire.encode_answer(answered(call), wire.Media.MSGPACK)))
    limits = http_response(b"{}", content_type="application/json")

    def script(_: ScriptedServer, conversation: Conversation) -> None:
        while request := conversation.read():
            conversation.say(limits if request.startswith(b"GET") else answer)

    with ScriptedServer(script) as server:
        command = [sys.executable, "-c", BEGIN + WAYS[way], server.url, str(order)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [CALLS, True]
