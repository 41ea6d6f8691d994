"""The card of a model, a README.md made of what its folder holds, and the list of all models.

See https://huggingface.co/docs/hub/model-cards for the metadata.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..common.cli import InputError
from ..common.files import MODELS, intact, read_json
from ..models.load import MINILM, Model
from ..triplets.dataset import Dataset
from .leakage import TRAINED_ON
from .report import Report, escaped

EVALUATIONS = "evaluation"  # the folder of tables in that of a model
SHOWN = ("nDCG@10", "triplet accuracy", "CPC F1 micro")  # in the metadata and in the list of models
LIST = """# models/

One folder per trained model: `patentCL-10K`, `-100K`, `-1M`, `-FULL`. `<name>.training/` is an unfinished run with its
checkpoints and log; resume it with `--resume`. Each training and each complete evaluation on test lists the models
here, with their metrics on held-out patents and, in brackets, the difference from the base.
"""


def base_facts(base: Model) -> dict[str, str | None]:
    """What a card says of the base model: its `name`, that on the `hub` and its `license`, None if unknown."""
    licence = None
    with suppress(OSError, ValueError):  # no card, or one without valid metadata
        licence = ModelCard.load(base.folder / "README.md").data.license
    hub = base.name if "/" in base.name and not Path(base.name).expanduser().is_dir() else None
    hub = "sentence-transformers/all-MiniLM-L6-v2" if base.name == MINILM else hub
    return {"name": hub or base.label, "hub": hub, "license": licence}


def data_facts(data: Dataset, folder: Path, seen: np.ndarray) -> dict[str, Any]:
    """What a card says of the training data; write the ids of each split's patents to `folder`, one a line.

    Those of train are the texts that the training has `seen`, a mask (N,).
    """
    about, train, patents = data.about, data.triplets[data.triplets["split"] == "train"], {}
    for split in ("train", "val", "test"):
        of_split = seen if split == "train" else data.texts["split"] == split
        ids = data.texts.loc[of_split, "patent_id"].sort_values()
        patents[split] = len(ids)
        with (folder / TRAINED_ON.replace("train", split)).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{patent}\n" for patent in ids)
    return {
        "name": about.get("name", "triplets"),
        "source": about.get("source", "CSV of triplets"),
        "fingerprint": data.fingerprint,
        "split": about.get("params", {}).get("split", "random"),
        "seed": about.get("seed"),
        "dates": about.get("dates of families", {}),
        "patents": patents,
        "negatives": train["negative_kind"].astype(str).value_counts().to_dict(),
        "positives": train["positive_kind"].astype(str).value_counts().to_dict(),
    }


def add_to_cards(models: Sequence[Model], report: Report, name: str) -> None:
    """Put the tables of a `report`, called `name`, into the folder and card of each model that patentCL trained."""
    for folder in (model.folder for model in models if (model.folder / "run.json").exists()):
        try:
            write_card(folder, report, name)
            write_list(folder.resolve().parent)
        except (PermissionError, InputError) as problem:
            print(f"{folder}: its card stays as it is ({problem})")


def write_card(folder: Path, report: Report | None, name: str) -> None:
    """Write the card of the model in `folder` from its record and evaluations, to which `report` is added as `name`.

    Raises `InputError` for a model of an earlier version, whose record does not have what the card says.
    """
    record = read_json(folder / "run.json")
    if "card" not in record:
        raise InputError("an earlier version trained it")
    if report:
        report.save(folder / EVALUATIONS, name)
    results = [
        EvalResult("information-retrieval", "patents", of, metric.lower().replace(" ", "_"), float(row[metric]), metric)
        for of, row in _results(folder, record["name"])
        for metric in SHOWN
        if pd.notna(row.get(metric))
    ]
    is_public = record["data"]["source"] == "PatentsView"
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "patents", "patentcl"],
        language="en" if is_public else None,
        datasets=["PatentsView"] if is_public else None,
        base_model=record["card"]["base"]["hub"],
        license=record["card"]["base"]["license"],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=record["name"],
        eval_results=results or None,
    )
    tables = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / EVALUATIONS).glob("*.md"))}
    template = str(Path(__file__).with_name("card.md"))
    facts = {**record["card"], "record": record, "data": record["data"], "tables": tables}
    (folder / "README.md").write_text(str(ModelCard.from_template(data, template, **facts)), encoding="utf-8")


def _results(folder: Path, name: str) -> Iterator[tuple[str, pd.Series]]:
    """Name of each evaluation of the model in `folder`, and its row, under the name of the folder or the one then."""
    for path in sorted((folder / EVALUATIONS).glob("*.csv")):
        with intact(path, path):
            rows = dict(pd.read_csv(path, dtype={"row": str}).set_index("row").iterrows())
        if row := next((row for row in (folder.name, name) if row in rows), ""):
            yield path.stem, rows[row]


def write_list(folder: Path) -> None:
    """Write the list of models to `folder`, if that is `models/` of this repository."""
    if folder == MODELS:
        (folder / "README.md").write_text(models_list(folder), encoding="utf-8")


def models_list(folder: Path) -> str:
    """The list of the models in `folder` with their evaluations, as Markdown."""
    rows = [["model", "base model", "train triplets", "evaluated on", "queries", *SHOWN], ["---"] * (5 + len(SHOWN))]
    for path in sorted(folder.glob("[!.]*/run.json")):
        with suppress(InputError):  # a corrupt record
            record, name = read_json(path), path.parent.name
            start = [f"[{escaped(name)}]({quote(name)})", escaped(Path(record["params"]["base_model"]).name)]
            start.append(f"{record['train triplets']:,}")
            for evaluation, row in [*_results(path.parent, name)] or [("–", pd.Series({"queries": 0}))]:
                values = (f"{row.get(m, float('nan')):.3f} ({row.get(f'{m} - base', 0):+.3f})" for m in SHOWN)
                cells = ["–" if cell.startswith("nan") else cell.replace(" (+nan)", "") for cell in values]
                rows.append([*start, escaped(evaluation), f"{row['queries']:,.0f}", *cells])
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return LIST if len(rows) == 2 else f"{LIST}\n{lines}"
