"""distilabel, in batches as large as may be asked at once."""

import os
import sys

url, count, at_once, folder = sys.argv[1:]
os.environ |= {"HF_HUB_OFFLINE": "1", "DISTILABEL_LOG_LEVEL": "ERROR"}

from distilabel.models import OpenAILLM  # noqa: E402 (reads the environment)
from distilabel.pipeline import Pipeline  # noqa: E402
from distilabel.steps import LoadDataFromDicts  # noqa: E402
from distilabel.steps.tasks import TextGeneration  # noqa: E402


def main() -> None:
    asked = [f"Tell me one thing about the number {n}." for n in range(int(count))]
    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(
            data=[{"instruction": each} for each in asked], batch_size=int(at_once)
        )
        model = OpenAILLM(
            model="m",
            base_url=url,
            api_key="none",
            generation_kwargs={"max_new_tokens": 64, "temperature": 0.8, "top_p": 0.95},
        )
        load >> TextGeneration(llm=model, input_batch_size=int(at_once))
    found = pipeline.run(use_cache=False)
    assert len(found["default"]["train"]) == int(count)


if __name__ == "__main__":
    main()
