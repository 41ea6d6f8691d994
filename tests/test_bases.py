"""Every kind of base model is read as its authors meant, and what cannot be read is refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import patent_embedding_scatter
import patentcl.evaluation.__main__ as evaluation
from patent_triplet_trainer import main
from patentcl.common.cli import InputError
from patentcl.common.files import read_json, write_json
from patentcl.evaluation.compare import with_base
from patentcl.models.bases import BASES, POOLINGS, Readout
from patentcl.models.embed import embed, encode
from patentcl.models.load import MINILM, find_model
from patentcl.models.tokens import join_texts, prompt_of, separator, tokenise
from patentcl.training import train as train_module
from patentcl.training.options import Hyperparameters
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from tiny import hyperparameters, plain, untrained

PATENTS = pd.DataFrame(
    {"title": ["Pump", " Valve", "Lamp"], "abstract": ["A pump. ", "A valve " * 99, "A lamp that is lit by a diode."]}
)
PROMPT = "represent this patent for search: "


def by_encode(folder: Path) -> np.ndarray:
    """The vectors that a user of the model gets from Sentence Transformers."""
    model = SentenceTransformer(str(folder), device="cpu")
    return np.asarray(model.encode(join_texts(PATENTS, separator(model))))


def prompted(folder: Path, include: bool) -> str:
    """A model with a prompt that is its default, and that its pooling includes or leaves out."""
    model = untrained(folder, pooling="mean", prompts={"p": PROMPT, "q": "q: "}, default_prompt_name="p").load()
    model.set_pooling_include_prompt(include)
    model.save_pretrained(str(folder / "prompted"), create_model_card=False)
    return str(folder / "prompted")


KINDS: dict[str, Any] = {
    "mean": lambda folder: find_model(untrained(folder, pooling="mean").name),
    "cls": untrained,
    "another pooling": lambda folder: find_model(untrained(folder).name, Readout(pooling="max")),
    "plain checkpoint of a known base": lambda folder: find_model(str(plain(folder / "scincl"))),
    "plain checkpoint with --pooling": lambda folder: find_model(
        str(plain(folder / "x")), Readout(pooling="lasttoken")
    ),
    "default prompt": lambda folder: find_model(prompted(folder, include=True)),
    "prompt that is not pooled": lambda folder: find_model(prompted(folder, include=False)),
    "another prompt of the model": lambda folder: find_model(prompted(folder, True), Readout(prompt="q")),
    "no prompt": lambda folder: find_model(prompted(folder, True), Readout(prompt="")),
    "new prompt": lambda folder: find_model(untrained(folder).name, Readout(prompt=PROMPT)),
    "Dense head": lambda folder: untrained(folder, head=True),
    "fewer dimensions": lambda folder: untrained(folder, truncate_dim=8),
    "RoBERTa": lambda folder: untrained(folder, "roberta"),
    "MPNet": lambda folder: untrained(folder, "mpnet", pooling="mean"),
    "T5": lambda folder: untrained(folder, "t5", pooling="mean"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_models_own_encode_gives_the_vectors_that_are_evaluated(kind: str, tmp_path: Path) -> None:
    base = KINDS[kind](tmp_path)
    network = base.load().to("cpu")
    with torch.no_grad():
        for parameter in network.parameters():  # as a training does
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    network.save_pretrained(str(tmp_path / "trained"), create_model_card=False)

    evaluated = embed(find_model(str(tmp_path / "trained")), PATENTS, tmp_path / "cache")

    np.testing.assert_allclose(evaluated, encode(network, PATENTS), atol=1e-4)
    np.testing.assert_allclose(evaluated, by_encode(tmp_path / "trained"), atol=1e-4)
    assert np.ptp(evaluated, axis=0).min() > 1e-2  # far more than they may differ


def test_a_default_prompt_is_read_and_a_prompt_that_is_not_pooled_makes_a_difference(tmp_path: Path) -> None:
    included, excluded = (prompted(tmp_path / str(include), include) for include in (True, False))

    vectors = [encode(find_model(included, Readout(prompt=prompt)).load(), PATENTS) for prompt in (None, "", "q: ")]
    vectors.append(encode(find_model(excluded).load(), PATENTS))

    for place, one in enumerate(vectors):
        assert all(np.abs(one - other).max() > 1e-2 for other in vectors[:place])


def pooling_of(folder: Path, readout: Readout = Readout()) -> str:
    (pooling,) = (layer for layer in find_model(str(folder), readout).load() if isinstance(layer, Pooling))
    return str(pooling.pooling_mode)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("scincl", "cls"), ("specter2_base", "cls"), ("PatentSBERTa", "cls"), ("paecter", "mean"), ("unknown", "mean")],
)
def test_a_plain_checkpoint_is_pooled_by_its_name(
    name: str, pooling: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pooling_of(plain(tmp_path / name)) == pooling
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name}: {pooling} (") and printed.count("\n") == 1
    assert ("--pooling" in printed) == (name == "unknown")
    assert ("allenai/specter2" in printed) == (name == "specter2_base")


def test_a_copy_is_known_by_its_config_and_the_user_overrides_everything(tmp_path: Path) -> None:
    copy = plain(tmp_path / "copy")
    write_json(copy / "config.json", {**read_json(copy / "config.json"), "_name_or_path": "malteos/scincl"})
    complete = untrained(tmp_path, pooling="max").folder

    assert (pooling_of(copy), pooling_of(complete)) == ("cls", "max")
    assert pooling_of(copy, Readout(pooling="mean")) == pooling_of(complete, Readout(pooling="mean")) == "mean"
    assert {base["pooling"] for base in BASES.values()} <= set(POOLINGS)
    assert len({find_model(str(copy), Readout(pooling=p, prompt=q)).fingerprint for p in POOLINGS for q in "ab"}) == 12


def test_a_known_prompt_is_used_unless_the_model_was_trained_without(tmp_path: Path) -> None:
    known = plain(tmp_path / "patembed-base")

    assert find_model(str(known)).prompt.startswith("encode query for ")
    assert find_model(str(known), Readout(prompt="")).prompt == ""
    write_json(known / "run.json", {"params": {}})
    assert find_model(str(known)).prompt == ""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_base_in_16_bits_trains_to_the_weights_of_the_same_base_in_32(
    dtype: torch.dtype, data: Dataset, tmp_path: Path
) -> None:
    bases = plain(tmp_path / "32"), plain(tmp_path / "16", dtype=dtype)
    stored = [load_file(base / "model.safetensors")["pooler.dense.weight"] for base in bases]
    assert stored[1].dtype == dtype and torch.equal(stored[0], stored[1].float())
    for base in bases:
        settings = replace(hyperparameters(base), evaluations=0, dropout=0, lr=1e-5)
        train(data, tmp_path / f"trained-{base.name}", tmp_path / "cache", settings)

    one, other = (load_file(tmp_path / f"trained-{base.name}" / "model.safetensors") for base in bases)
    assert all(torch.equal(one[name], other[name]) and one[name].dtype == torch.float32 for name in one)
    assert not torch.equal(one["embeddings.LayerNorm.weight"], torch.ones(32))  # it was trained
    first, second = (encode(find_model(str(base)).load(), PATENTS) for base in bases)
    assert np.array_equal(first, second)


def test_texts_longer_than_the_positions_are_truncated(tmp_path: Path) -> None:
    for kind, most in (("roberta", 128), ("bert", 130)):
        model = untrained(tmp_path, kind)
        (model.folder / "sentence_bert_config.json").write_text('{"max_seq_length": 1024}')
        network = find_model(model.name).load()

        assert network.max_seq_length == most
        assert np.isfinite(encode(network, PATENTS)).all()


def test_a_tokenizer_without_a_limit_reads_as_many_tokens_as_a_length_can_count(tmp_path: Path) -> None:
    model = find_model(str(plain(tmp_path / "t5", "t5")))
    long = pd.DataFrame({"title": ["a", "b"], "abstract": ["word " * 70_000, "word"]})

    tokens = tokenise(model.load(), 2, lambda start: iter([long[start:]]), "two texts", tmp_path)

    assert tokens.lengths.tolist() == [65_535, 5]
    with pytest.raises(InputError, match=r"--max-length 65536 .* 65535"):
        model.load(65_536)


def more_tokens_than_embeddings(folder: Path) -> str:
    tokenizer = AutoTokenizer.from_pretrained(str(plain(folder / "more")))
    tokenizer.add_tokens([f"new{number}" for number in range(5)])
    tokenizer.save_pretrained(folder / "more")
    return str(folder / "more")


def static(folder: Path) -> str:
    tokenizer = Tokenizer.from_file(str(find_model(MINILM).folder / "tokenizer.json"))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    model.save_pretrained(str(folder / "static"), create_model_card=False)
    return str(folder / "static")


def adapter(folder: Path) -> str:
    (folder / "specter2").mkdir()
    (folder / "specter2" / "adapter_config.json").write_text("{}")
    return str(folder / "specter2")


@pytest.mark.parametrize(
    ("make", "names"),
    [(more_tokens_than_embeddings, "30,527 .* 30,522"), (static, "StaticEmbedding"), (adapter, "adapter")],
)
def test_a_model_that_cannot_be_read_is_refused_when_it_is_loaded(make: Any, names: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=names):
        find_model(make(tmp_path)).load()


def test_the_trainer_saves_what_its_flags_say_and_the_base_is_compared_as_it_was_read(
    mined_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "embed", lambda *_: pytest.fail("texts are embedded without an evaluation"))
    base, output = plain(tmp_path / "base"), tmp_path / "m"
    command = ["--data", str(mined_data), "--triplets", "200", "--base-model", str(base), "--epochs", "0.1"]
    readout = ["--pooling", "lasttoken", "--prompt", PROMPT]

    main([*command, *readout, "--evaluations", "0", "--max-length", "16", "--output", str(output)])

    printed = capsys.readouterr().out
    assert f"base: lasttoken (--pooling) of '{PROMPT}title" in printed
    trained, text = SentenceTransformer(str(output)), ModelCard.load(output / "README.md").text
    assert (trained[1].pooling_mode, prompt_of(trained)) == ("lasttoken", PROMPT)
    assert f"max_length 16, pooling 'lasttoken', prompt {PROMPT!r}" in text and "--evaluations 0" in text
    models = with_base([str(output)])
    assert [(model.pooling, model.prompt) for model in models] == [("lasttoken", PROMPT), (None, PROMPT)]
    assert models[0].fingerprint == read_json(output / "run.json")["params"]["base"]


@pytest.mark.parametrize("command", [evaluation.main, patent_embedding_scatter.main])
def test_evaluation_and_scatter_read_models_as_the_flags_say(
    command: Any, mined_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def stop(names: list[str], readout: Readout) -> None:
        asked.extend([names, readout.pooling, readout.prompt])
        raise InputError("asked")

    monkeypatch.setattr("patentcl.evaluation.compare.with_base", stop)
    monkeypatch.setattr(evaluation, "with_base", stop)
    with pytest.raises(InputError, match="asked"):
        command(
            ["--data", str(mined_data), "--triplets", "200", "--models", "x", "--pooling", "cls", "--prompt", "p: "]
        )

    assert asked == [["x"], "cls", "p: "]


def test_a_pooling_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="--pooling first"):
        Hyperparameters(pooling="first")
    assert json.dumps(Hyperparameters().pooling) == "null"
