"""The model card: a model's README.md with its results (https://huggingface.co/docs/hub/model-cards)."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..models.load import MINILM, Model
from .losses import LOSSES
from .options import Hyperparameters

SHOWN = ("epochs", "batch_size", "lr", "average", "seed")  # hyperparameters, besides those of the loss


def write_card(
    path: Path, base: Model, chosen: Hyperparameters, record: dict[str, Any], separator: str, tables: str
) -> None:
    """Write the card of the model in `path`'s folder, from its `record` and the `tables` of its evaluation."""
    licence = _licence(base)
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "patents", "patentcl"],
        base_model=_hub_name(base),
        license=licence,
    )
    values = {name: getattr(chosen, name) for name in (*LOSSES[chosen.loss].options, *SHOWN)}
    card = ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("card.md")),
        name=record["name"],
        params=chosen,
        record=record,
        separator=separator,
        settings=", ".join([f"loss {chosen.loss}", *(f"{name} {value:g}" for name, value in values.items())]),
        licence=f"Licence: {licence}, that of the base model." if licence
        else "Licence: unknown, because the base model names none. Check it before you share this model.",
        tables=tables,
    )  # fmt: skip
    path.write_text(str(card), encoding="utf-8")


def _hub_name(base: Model) -> str | None:
    """The name of the base model on the hub, if it has one."""
    if base.name == MINILM:
        return "sentence-transformers/all-MiniLM-L6-v2"
    return None if Path(base.name).expanduser().is_dir() or "/" not in base.name else base.name


def _licence(base: Model) -> str | None:
    """The licence in the base model's own card."""
    try:
        licence: str | None = ModelCard.load(base.folder / "README.md").data.license
    except (OSError, ValueError):  # no card, or one without valid metadata
        return None
    return licence
