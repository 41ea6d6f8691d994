"""Views: title and abstract of a patent as texts of their own, and triplets of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer

from patentcl.models.load import Model
from patentcl.models.tokens import token_ids, tokenise
from patentcl.training.views import Views, view_triplets
from tiny import untrained

PATENTS = pd.DataFrame({"title": ["A pump", "Valve"], "abstract": ["It moves water.", ""]})


def views_of(model: SentenceTransformer, folder: Path) -> Views:
    tokens = tokenise(model, len(PATENTS), lambda start: iter([PATENTS.iloc[start:]]), "views", folder)
    return Views(tokens, model)


@pytest.mark.parametrize("prompt", ["", "patent: "])
def test_a_view_is_read_like_a_text_that_is_a_title_or_an_abstract_only(
    small_model: Model, tmp_path: Path, prompt: str
) -> None:
    model = small_model.take()
    model.prompts, model.default_prompt_name = {"p": prompt}, "p"
    views = views_of(model, tmp_path)

    wanted = token_ids(model, ["A pump", "It moves water."])
    assert views[2].tolist() == wanted[0].tolist()
    assert views[4].tolist() == wanted[1].tolist()
    assert [len(views[row]) for row in range(6)] == views.lengths.tolist()


def test_a_patent_without_an_abstract_is_its_own_view(small_model: Model, tmp_path: Path) -> None:
    views = views_of(small_model.load(), tmp_path)

    assert views[1].tolist() == views[3].tolist() == views[5].tolist()


def test_a_tokenizer_without_a_separator_gives_two_halves(tmp_path: Path) -> None:
    model = untrained(tmp_path, "t5", "mean").load(64)
    model.tokenizer.sep_token = None
    views = views_of(model, tmp_path)

    title, abstract = views[2].tolist(), views[4].tolist()
    assert len(title) > 1 and len(abstract) > 1
    assert title[:-1] + abstract[1:] == [token for token in views[0].tolist() if token in title + abstract]


def test_view_triplets_take_each_train_patent_as_often_and_a_negative_of_its_topic() -> None:
    topics, train = np.array([7, 7, 7, 8, 8, 9]), np.array([1, 1, 1, 1, 1, 0], bool)
    triplets = view_triplets(topics, train, 10, seed=1)
    patent, negative = triplets[:, 0] - 6, triplets[:, 2]

    assert sorted(patent) == sorted([0, 1, 2, 3, 4] * 2)
    assert (triplets[:, 1] == 12 + patent).all() and (patent != negative).all()
    assert (topics[patent] == topics[negative]).mean() >= 0.6
    assert np.array_equal(triplets, view_triplets(topics, train, 10, seed=1))
    assert len(view_triplets(topics, train, 7, seed=1)) == 7
    assert not np.array_equal(triplets, view_triplets(topics, train, 10, seed=2))
