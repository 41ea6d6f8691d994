"""The model card: a model's README.md with its results (https://huggingface.co/docs/hub/model-cards)."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..models.load import MINILM, Model
from .losses import LOSSES

SHOWN = ("epochs", "batch_size", "lr", "average", "seed")  # hyperparameters, besides those of the loss
IF_GIVEN = ("max_length", "pooling", "prompt")


def write_card(path: Path, base: Model, record: dict[str, Any], separator: str, tables: str) -> None:
    """Write the card of a model fine-tuned from `base`: its `record`, and the `tables` of its evaluation."""
    try:
        licence = ModelCard.load(base.folder / "README.md").data.license
    except (OSError, ValueError):  # no card, or one without valid metadata
        licence = None
    hub_name = base.name if "/" in base.name and not Path(base.name).expanduser().is_dir() else None
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "patents", "patentcl"],
        base_model="sentence-transformers/all-MiniLM-L6-v2" if base.name == MINILM else hub_name,
        license=licence,
    )
    params = record["params"]
    names = (*LOSSES[params["loss"]].options, *SHOWN)
    settings = [f"loss {params['loss']}", *(f"{name} {params[name]:g}" for name in names)]
    settings += [f"{name} {params[name]!r}" for name in IF_GIVEN if params.get(name)]
    card = ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("card.md")),
        record=record,
        separator=separator,
        settings=", ".join(settings),
        licence=licence,
        tables=tables,
    )
    path.write_text(str(card), encoding="utf-8")
