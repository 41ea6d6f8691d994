"""Compare embedding models on the same patents: a picture, a page to explore, a table of metrics.

    python patent_embedding_scatter.py                                       # PatentSBERTa and models/patentCL-10K
    python patent_embedding_scatter.py --models minilm DIR --color-by class

Writes scatter.png, scatter.html, metrics.csv, and the tables of the evaluation as evaluation.csv and evaluation.md.
"""

import argparse
from pathlib import Path

from patentcl.common.cli import run_script, seed
from patentcl.common.files import DATA, beside


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument_group("what").add_argument
    add("--models", nargs="+", metavar="NAME|DIR", help="models (default: AI-Growth-Lab/PatentSBERTa patentCL-10K)")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where patent_handler.py wrote (default: data/)")
    add("--triplets", default="10K", metavar="NAME", help="the triplets whose texts are shown")
    add("--output", type=Path, metavar="DIR", help="where the results go (default: <data>/scatter/<triplets>)")
    add("--max-length", type=int, default=0, help="tokens of a text that are read (0: as many as each model can)")
    add("--corpus-sample", type=int, default=2_000, metavar="N", help="evaluate among about N patents (0: among all)")
    add = parser.add_argument_group("picture").add_argument
    add("--split", choices=("test", "val", "train", "all"), default="test", help="test: patents no training has seen")
    add("--sample", type=int, default=10_000, help="at most so many patents")
    add("--color-by", choices=("section", "class", "subclass"), default="section", help="level of the CPC")
    add("--seed", type=seed, default=42, help="sample and layout")
    return parser.parse_args()


def main() -> None:
    """Embed, project, measure, draw."""
    args = parse_arguments()
    from patentcl.evaluation.compare import compare, embed_all, patents_to_compare, with_base
    from patentcl.evaluation.held_out import held_out_set
    from patentcl.evaluation.metrics import picture_metrics
    from patentcl.evaluation.report import check_output
    from patentcl.figures.layout import colour_groups, project
    from patentcl.figures.page import scatter_html
    from patentcl.figures.scatter import scatter_png
    from patentcl.models.load import PATENTSBERTA
    from patentcl.tables.overview import subclass_titles
    from patentcl.triplets.dataset import load_dataset

    folder, cache = args.data / "triplets" / args.triplets, args.data / "embeddings"
    output = args.output or args.data / "scatter" / folder.name
    data = load_dataset(folder)
    models = with_base(args.models or [PATENTSBERTA, "patentCL-10K"])
    patents = patents_to_compare(data, args.sample, args.split, args.seed)
    check_output(output, "evaluation")
    embeddings = embed_all(models, patents, cache, args.max_length)
    metrics = picture_metrics(embeddings, patents, args.seed)
    on = held_out_set(data, "test", args.corpus_sample, args.seed)
    report = compare(models, on, cache, args.max_length, args.seed)
    metrics = metrics.join(report.main_metrics(), how="outer")
    print(f"{metrics.to_string(float_format='{:.3f}'.format)}\n\n{report.to_text()}")
    report.save(output, "evaluation", triplets=folder)

    points = project(embeddings, seed=args.seed)
    groups = colour_groups(patents, args.color_by, titles=subclass_titles(args.data / "graph"))
    title = f"{len(patents):,} patents of the {args.split} split, coloured by CPC {args.color_by}"
    scatter_png(points, patents, groups, metrics, output / "scatter.png", title)
    scatter_html(points, patents, groups, metrics, output / "scatter.html", title)
    with beside(output / "metrics.csv") as scratch:
        metrics.to_csv(scratch, index_label="model")
    print(f"picture: {output / 'scatter.png'}\npage to explore: {output / 'scatter.html'}")


if __name__ == "__main__":
    run_script(main)
