"""Every answer on disk, in a cache and a journal, before it is counted."""

import sys
from pathlib import Path

from character.models.base import Message, Sampling
from character.models.budget import Budget
from character.models.cache import RequestCache
from character.models.config import RequestsConfig
from character.models.endpoint import Call
from character.models.openai_api import OpenAIEndpoint
from character.models.served import ServedModel

url, count, at_once, folder = sys.argv[1:]
model = ServedModel(
    OpenAIEndpoint("http://bench#m", "m", base_url=url, own=True, connections=int(at_once)),
    RequestsConfig(concurrency=int(at_once)),
    RequestCache(Path(folder) / "cache"),
    Budget(journal=Path(folder) / "spending.jsonl"),
)
calls = (
    Call((Message("user", f"Tell me one thing about the number {n}."),), Sampling(), n)
    for n in range(int(count))
)
got = 0
for answered in model.stream(calls):
    got += sum(generation.finish == "stop" for _, generation in answered)
assert got == int(count), got
