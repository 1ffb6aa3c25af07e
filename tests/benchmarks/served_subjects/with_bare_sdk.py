"""The openai SDK with asyncio, and nothing kept."""

import asyncio
import sys

import openai

url, count, at_once, _ = sys.argv[1:]


async def main() -> None:
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    todo = iter(range(int(count)))

    async def work() -> None:
        for n in todo:
            answer = await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": f"Tell me one thing about the number {n}."}],
                max_tokens=64,
                temperature=0.8,
                top_p=0.95,
                seed=n,
            )
            assert answer.choices[0].message.content

    await asyncio.gather(*(work() for _ in range(int(at_once))))


asyncio.run(main())
