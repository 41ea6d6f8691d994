"""Nothing that others wrote is executed: titles and names in the page, code beside a model's weights, pickles."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from browser import browsing, installed
from patentcl.common.cli import InputError
from patentcl.figures.colours import colour_groups
from patentcl.figures.page import scatter_page
from patentcl.figures.scatter import Scatter
from patentcl.models.load import Model, find_model
from patentcl.search.nearest import neighbours
from patentcl.tables.download import download_tables
from patentcl.training.checkpoints import load

RAN = "document.documentElement.dataset.ran=1"
HOSTILE = [
    f"</script><script>{RAN}</script>",
    f"<img src=x onerror={RAN}>",
    f'"><svg onload="{RAN}">',
    f"<!--<script>{RAN}//",
    f"&lt;script&gt;{RAN}&lt;/script&gt;",
]


def test_a_browser_shows_titles_classes_and_models_as_text(tmp_path: Path) -> None:
    if not installed():
        pytest.skip("no browser on PATH")
    names = [f"{text} {n}" for n, text in enumerate(HOSTILE)]
    patents = pd.DataFrame({"patent_id": names, "title": HOSTILE, "date": HOSTILE, "section": names, "subclass": names})
    patents["class"] = names
    patents["subclasses"] = [[name] for name in names]
    points = {name: np.random.default_rng(0).normal(size=(5, 2)) for name in names[:2]}
    metrics = pd.DataFrame({name: [1.0, 0.5] for name in names}, index=names[:2])
    near = {name: neighbours(rows, 10) for name, rows in points.items()}
    file, raw = tmp_path / "page.html", tmp_path / "raw.html"
    page = scatter_page(Scatter(points, patents, colour_groups(patents), metrics, HOSTILE[0], near))
    file.write_text(page, encoding="utf-8")
    unescaped = page.replace("</aside>", f"</aside>{HOSTILE[1]}{HOSTILE[2]}")
    policy = re.compile("<meta http-equiv[^>]*>")
    ran = "'ran' in document.documentElement.dataset"

    with browsing(tmp_path) as browser:
        browser.open(file)
        shown = browser.run("document.body.innerText")
        for n, title in enumerate(HOSTILE):
            browser.run(f"point({n}, maps[0], 10, 10)")
            assert browser.run("tip.innerText").split("\n") == [title, f"{names[n]} · {title} · {names[n]}"]
            browser.run(f"select({n})")
            listed = browser.run("document.querySelector('#detail').innerText")
            assert all(listed.count(text) >= 2 for text in HOSTILE if text != title), "in the list of each model"
            browser.run(f"byId('query').value = {json.dumps(title)}; showResults()")
            assert title in browser.run("document.querySelector('#results').innerText")
        assert not browser.run(ran) and not browser.problems
        assert not browser.run("document.querySelector('img, svg') || document.querySelectorAll('script').length > 2")
        raw.write_text(unescaped, encoding="utf-8")
        browser.open(raw)
        assert not browser.run(ran), "the policy of the page keeps the browser from running what is not escaped"
        raw.write_text(policy.sub("", unescaped), encoding="utf-8")
        browser.open(raw)
        assert browser.run(ran), "without the policy, the browser runs it"

    assert all(shown.count(text) >= 1 for text in names), "in the table of metrics"
    assert shown.count("<img src=x onerror") >= 2, "and in the legend"


def test_code_beside_the_weights_is_not_executed(small_model: Model, tmp_path: Path) -> None:
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
    modules, config = tmp_path / "modules", tmp_path / "config"
    for folder in (modules, config):
        shutil.copytree(small_model.folder, folder)
        (folder / "modeling_theirs.py").write_text(code + "class Theirs: pass\n")
    parts = json.loads((modules / "modules.json").read_text())
    parts[-1]["type"] = "modeling_theirs.Theirs"
    (modules / "modules.json").write_text(json.dumps(parts))
    settings = json.loads((config / "config.json").read_text())
    settings["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "modeling_theirs.Theirs")
    (config / "config.json").write_text(json.dumps(settings | {"model_type": "theirs"}))

    for folder in (modules, config):
        with pytest.raises(InputError, match=folder.name) as problem:
            find_model(str(folder)).load()
        assert "trust_remote_code" not in str(problem.value), "which no flag of ours sets"
    assert not (tmp_path / "ran").exists()


class Pickled:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_not_executed(small_model: Model, tmp_path: Path) -> None:
    checkpoint, bad = tmp_path / "checkpoint-000000001.pt", tmp_path / "bad"
    torch.save({"weights": Pickled(tmp_path / "ran")}, checkpoint)
    shutil.copytree(small_model.folder, bad)
    for weights in bad.rglob("model.safetensors"):
        weights.unlink()
        torch.save(Pickled(tmp_path / "ran"), weights.with_name("pytorch_model.bin"))

    with pytest.raises(InputError, match=checkpoint.name):
        load(checkpoint, torch.device("cpu"))
    with pytest.raises(InputError, match=bad.name) as problem:
        find_model(str(bad)).load()
    assert "weights_only" not in str(problem.value), "advice to execute it"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("address", ["ftp://me:s3cret@host/files", "http://me:s3cret@127.0.0.1:9/files"])
def test_a_password_in_an_address_is_in_no_message(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("patentcl.tables.download.BACKOFF", 0)
    monkeypatch.setenv("http_proxy", "http://me:s3cret@127.0.0.1:9")
    with pytest.raises(InputError) as problem:
        download_tables(tmp_path, base_url=address)

    assert "s3cret" not in str(problem.value) + "".join(capfd.readouterr())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
