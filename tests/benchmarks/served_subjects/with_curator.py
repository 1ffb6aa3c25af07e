"""bespokelabs-curator, told that there is no limit to what the server takes."""

import os
import sys

url, count, at_once, folder = sys.argv[1:]
os.environ |= {"TELEMETRY_ENABLED": "0", "OPENAI_API_KEY": "none"}

import tiktoken  # noqa: E402


class Words:
    """Counts tokens without fetching an encoding; cheaper than the real one, in its favour."""

    def encode(self, text: str, **_: object) -> list[str]:
        return text.split()


tiktoken.encoding_for_model = tiktoken.get_encoding = lambda name: Words()

from bespokelabs import curator  # noqa: E402 (reads the environment)

model = curator.LLM(
    model_name="gpt-4o-mini",
    backend="openai",
    generation_params={"max_tokens": 64, "temperature": 0.8, "top_p": 0.95},
    backend_params={
        "base_url": url,
        "max_requests_per_minute": 10**7,
        "max_tokens_per_minute": 10**10,
        "max_concurrent_requests": int(at_once),
    },
)
found = model(
    [f"Tell me one thing about the number {n}." for n in range(int(count))], working_dir=folder
)
assert len(found.dataset) == int(count), len(found.dataset)
