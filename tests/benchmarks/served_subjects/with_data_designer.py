"""NVIDIA NeMo Data Designer: one text column over a seed dataset."""

import sys
from pathlib import Path

url, count, at_once, folder = sys.argv[1:]

import pandas as pd  # noqa: E402
from data_designer.config import (  # noqa: E402
    ChatCompletionInferenceParams,
    DataDesignerConfigBuilder,
    LLMTextColumnConfig,
    LocalFileSeedSource,
    ModelConfig,
    ModelProvider,
)
from data_designer.interface import DataDesigner  # noqa: E402

seed = Path(folder) / "asked.parquet"
asked = [f"Tell me one thing about the number {n}." for n in range(int(count))]
pd.DataFrame({"asked": asked}).to_parquet(seed)
provider = ModelProvider(name="bench", endpoint=url, provider_type="openai", api_key="none")
params = ChatCompletionInferenceParams(
    max_parallel_requests=int(at_once), max_tokens=64, temperature=0.8, top_p=0.95
)
model = ModelConfig(
    alias="m", model="m", provider="bench", inference_parameters=params, skip_health_check=True
)
builder = DataDesignerConfigBuilder(model_configs=[model])
builder.with_seed_dataset(LocalFileSeedSource(path=str(seed)))
builder.add_column(LLMTextColumnConfig(name="answer", prompt="{{ asked }}", model_alias="m"))
found = DataDesigner(artifact_path=folder, model_providers=[provider]).create(
    builder, num_records=int(count)
)
assert len(found.load_dataset()) == int(count)
