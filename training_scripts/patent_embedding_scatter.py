"""Compare embedding models on the same patents: a picture, a page to explore, tables of metrics.

    python patent_embedding_scatter.py                                         # PatentSBERTa and models/patentCL-10K
    python patent_embedding_scatter.py --models minilm DIR --color-by class    # or section, subclass, year, none

Writes scatter.png, scatter.html, metrics.csv, evaluation.csv, evaluation.md and, with --export atlas, atlas.parquet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from patentcl.common.cli import check_ranges, option, parse_options, run_script
from patentcl.common.files import DATA, locked
from patentcl.models.bases import Readout

DEFAULT = ("AI-Growth-Lab/PatentSBERTa", "patentCL-10K")


@dataclass(frozen=True)
class Inputs(Readout):
    """The models, the patents, and where the results go."""

    _argument_group_name: ClassVar[str] = "inputs"
    models: list[str] | None = option(None, f"models (default: {' '.join(DEFAULT)})", metavar="NAME")
    data: Path = option(DATA, "folder that patent_handler.py wrote to", metavar="DIR")
    triplets: str = option("10K", "triplets whose patents to show", metavar="NAME")
    output: Path | None = option(None, "folder for the results (default: <data>/scatter/<triplets>)", metavar="DIR")
    max_length: int = option(0, "truncate texts to N tokens (0: each model's limit)", metavar="N")
    corpus_sample: int = option(2_000, "evaluate on a corpus of about N patents (0: all)", metavar="N")

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        check_ranges(self, {"corpus_sample": "[0, inf)"})


@dataclass
class Picture:
    """What the picture shows."""

    _argument_group_name: ClassVar[str] = "picture"
    split: Literal["test", "val", "train", "all"] = option(
        "test", "split to show; metrics on citations and triplets are those of test for train and all"
    )
    sample: int = option(10_000, "show at most N patents", metavar="N")
    color_by: Literal["auto", "section", "class", "subclass", "year", "none"] = option(
        "auto", "what colours stand for; auto: CPC sections, or years (else none) for a corpus without classes"
    )
    layout: Literal["umap", "tsne", "pca"] = option(
        "umap", "how to lay out: umap, tsne (fills the panel, slower) or pca (linear, fast)"
    )
    export: Literal["none", "atlas"] = option("none", "also write atlas.parquet, for embedding-atlas")
    seed: int = option(42, "seed of sample, layout and bootstrap")

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        check_ranges(self, {"sample": "[1, inf)"})


def main(argv: Sequence[str] | None = None) -> None:
    """Embed, measure, evaluate, draw."""
    inputs, picture = parse_options(__doc__, Inputs, Picture, argv=argv)
    from patentcl.evaluation.compare import compare, embed_all, patents_to_compare, with_base
    from patentcl.evaluation.held_out import held_out_set
    from patentcl.evaluation.metrics import picture_metrics
    from patentcl.evaluation.report import check_output
    from patentcl.figures.atlas import save_atlas
    from patentcl.figures.colours import colour_groups
    from patentcl.figures.page import save_scatter
    from patentcl.figures.scatter import make_scatter
    from patentcl.tables.overview import subclass_titles
    from patentcl.triplets.dataset import load_dataset

    folder, cache, seed = inputs.data / "triplets" / inputs.triplets, inputs.data / "embeddings", picture.seed
    output = inputs.output or inputs.data / "scatter" / folder.name
    dataset = load_dataset(folder)
    models = with_base(inputs.models or DEFAULT, inputs)
    patents = patents_to_compare(dataset, picture.sample, picture.split, seed)
    colour_groups(patents, picture.color_by)  # which may refuse, so before the embedding
    check_output(output, "evaluation")
    with locked(output / "scatter"):
        embeddings = embed_all(models, patents, cache, inputs.max_length)
        metrics = picture_metrics(embeddings, patents, seed)
        held_out = held_out_set(dataset, picture.split, inputs.corpus_sample, seed)
        report = compare(models, held_out, cache, inputs.max_length, seed)
        metrics = metrics.join(report.main_metrics(), how="outer")
        print(metrics.to_string(float_format="{:.3f}".format, na_rep="–"), report.to_markdown(), sep="\n\n")
        report.save(output, "evaluation", triplets=folder)
        titles = subclass_titles(inputs.data / "graph")
        how = picture.split, picture.color_by, titles, seed, picture.layout
        scatter = make_scatter(embeddings, patents, metrics, *how)
        save_scatter(scatter, output)
        commands = save_atlas(scatter, output / "atlas.parquet") if picture.export == "atlas" else []
    print(f"picture: {output / 'scatter.png'}\npage to explore: {output / 'scatter.html'}", *commands, sep="\n")


if __name__ == "__main__":
    run_script(main)
