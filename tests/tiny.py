"""A training that takes a second, and models that compute in milliseconds."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from patentcl.models.load import MINILM, Model, find_model
from patentcl.training.options import Hyperparameters
from patentcl.triplets.dataset import Dataset, load_dataset


def hyperparameters(base: Path) -> Hyperparameters:
    """12 steps and two evaluations."""
    return Hyperparameters(str(base), epochs=2, batch_size=4, max_length=32, evaluations=2)


def plain(folder: Path, kind: str = "bert", dtype: torch.dtype = torch.float32) -> Path:
    """Save a small untrained transformer of an architecture as transformers does, with the packaged tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(str(find_model(MINILM).folder))
    size: dict[str, float] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    size |= {"max_position_embeddings": 130, "initializer_range": 0.5, "pad_token_id": 1}
    if kind == "t5":  # reads texts of any length
        size = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        tokenizer.model_max_length = VERY_LARGE_INTEGER
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=len(tokenizer), **size))
    model.bfloat16().half().to(dtype).save_pretrained(folder)  # numbers that every dtype holds
    tokenizer.save_pretrained(folder)
    return folder


def untrained(folder: Path, kind: str = "bert", pooling: str = "cls", head: bool = False, **options: Any) -> Model:
    """Save a small untrained sentence-embedding model of an architecture."""
    body = Transformer(str(plain(folder / "body", kind)), max_seq_length=64)
    modules: list[nn.Module] = [body, Pooling(32, pooling)]
    model = SentenceTransformer(modules=modules + [Dense(32, 16)] * head, device="cpu", **options)
    model.save_pretrained(str(folder / kind), create_model_card=False)
    return find_model(str(folder / kind))


def small(mined_data: Path) -> Dataset:
    """24 train triplets, and little to evaluate."""
    dataset = load_dataset(mined_data / "triplets" / "200")
    triplets = dataset.triplets.groupby("split").head(24)
    retrieval = dataset.retrieval.groupby("split").head(10)
    return dataset.part(triplets, retrieval, dataset.fingerprint)
