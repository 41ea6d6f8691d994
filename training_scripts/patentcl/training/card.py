"""The card of a trained model: its README.md with our numbers."""

from typing import Any

from .recipes import Training


def model_card(name: str, record: dict[str, Any], training: Training, tables: str) -> str:
    """The model's README.md with our numbers, in the hub's format (https://huggingface.co/docs/hub/model-cards)."""
    settings = f"margin {training.margin:g}" if training.loss == "triplet" else f"scale {training.scale:g}"
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, patents]
---

# {name}

A patent embedding model: {training.base_model} fine-tuned on {record["train triplets"]:,} triplets of patents
(recipe {record["recipe"]}: loss {training.loss}, {settings}, {training.epochs:g} epochs, batch {training.batch_size},
learning rate {training.lr:g}, {training.average:.0%} of the trained weights, seed {training.seed}). Encode title +
separator token + abstract.

On the test split, whose patents no training triplet holds ({record["test queries"]:,} queries; p-values and
intervals by bootstrap, the protocol in `patentcl/evaluation.py`):

{tables}
Trained on {record["device"]} at {record["triplets a second"]} triplets a second; `run.json` has the whole record.
"""
