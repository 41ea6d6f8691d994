"""The text of a patent as a model reads it, put together in this one place."""

import pandas as pd


def join_texts(patents: pd.DataFrame, separator: str) -> list[str]:
    """Title + separator token + abstract of each row of `patents` (columns title, abstract).

    The separator is the tokenizer's own (`tokenizer.sep_token`, `</s>` for MPNet, `[SEP]` for BERT), the form that
    PatentSBERTa was trained with (Bekamiri et al. 2021, https://arxiv.org/abs/2103.11933).
    """
    return (patents["title"].str.strip() + separator + patents["abstract"].str.strip()).tolist()
