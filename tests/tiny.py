"""A training that takes a second, and models that compute in milliseconds."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoConfig, AutoModel, AutoTokenizer

from patentcl.models.load import MINILM, Model, find_model
from patentcl.training.options import Hyperparameters
from patentcl.triplets.dataset import Dataset, load_dataset


def hyperparameters(base: Path) -> Hyperparameters:
    """12 steps and two evaluations."""
    return Hyperparameters(str(base), epochs=2, batch_size=4, max_length=32, evaluations=2)


def untrained(folder: Path, kind: str = "bert") -> Model:
    """Save a small untrained model of an architecture, with the packaged tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(str(find_model(MINILM).folder))
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=130,
        initializer_range=0.5,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder / "body")
    tokenizer.save_pretrained(folder / "body")
    body = Transformer(str(folder / "body"), max_seq_length=64)
    pooling = Pooling(body.get_embedding_dimension(), "cls")
    model = SentenceTransformer(modules=[body, pooling], device="cpu")
    model.save_pretrained(str(folder / kind), create_model_card=False)
    return find_model(str(folder / kind))


def small(mined_data: Path) -> Dataset:
    """24 train triplets, and little to evaluate."""
    dataset = load_dataset(mined_data / "triplets" / "200")
    triplets = dataset.triplets.groupby("split").head(24)
    retrieval = dataset.retrieval.groupby("split").head(10)
    return dataset.part(triplets, retrieval, dataset.fingerprint)
