"""Nothing that others wrote is executed: titles and names in the page, code beside a model's weights, pickles."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from patentcl.common.cli import InputError
from patentcl.figures.colours import colour_groups
from patentcl.figures.page import scatter_page
from patentcl.figures.scatter import Scatter
from patentcl.models.load import Model, find_model
from patentcl.tables.download import download_tables
from patentcl.training.checkpoints import load

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --dump-dom"""
RAN = "document.documentElement.dataset.ran=1"
HOSTILE = [
    f"</script><script>{RAN}</script>",
    f"<img src=x onerror={RAN}>",
    f'"><svg onload="{RAN}">',
    f"<!--<script>{RAN}//",
    f"&lt;script&gt;{RAN}&lt;/script&gt;",
]
# Point at each patent, and collect what the tip then holds.
POINT = """<script>
const canvas = document.querySelector(".panel"), box = canvas.getBoundingClientRect(), seen = new Set();
for (let x = 2; x < box.width; x += 6) for (let y = 2; y < box.height; y += 6) {
  const to = {clientX: box.left + x, clientY: box.top + y, bubbles: true};
  canvas.dispatchEvent(new PointerEvent("pointermove", to));
  if (!tip.hidden) seen.add(tip.children[0].textContent + "|" + tip.children[1].textContent);
}
const output = document.createElement("output");
output.textContent = JSON.stringify([...seen]);
document.body.append(output);
</script>"""


def opened(page: str, folder: Path) -> str:
    """The document that a browser makes of `page`, after its scripts have run."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser on PATH ({', '.join(BROWSERS)})")
    (folder / "page.html").write_text(page, encoding="utf-8")
    switches = [*SWITCHES.split(), f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run([browser, *switches, (folder / "page.html").as_uri()], capture_output=True, timeout=120)
    return done.stdout.decode()


def test_a_browser_shows_titles_classes_and_models_as_text(tmp_path: Path) -> None:
    names = [f"{text} {n}" for n, text in enumerate(HOSTILE)]
    patents = pd.DataFrame({"patent_id": names, "title": HOSTILE, "date": HOSTILE, "section": names, "subclass": names})
    patents["subclasses"] = [[name] for name in names]
    points = {name: np.random.default_rng(0).normal(size=(5, 2)) for name in names[:2]}
    metrics = pd.DataFrame({name: [1.0, 0.5] for name in names}, index=names[:2])
    page = scatter_page(Scatter(points, patents, colour_groups(patents), metrics, HOSTILE[0]))

    shown = opened(page.replace("</body>", POINT + "</body>"), tmp_path)
    raw = opened(page.replace("</nav>", HOSTILE[1] + "</nav>"), tmp_path)

    assert "data-ran" in raw, "the browser runs what is not escaped"
    assert "data-ran" not in shown
    assert shown.count("<script") == 3 and not re.search("<(img|svg)", shown)
    (output,) = re.findall("<output>(.*)</output>", shown)
    tips = json.loads(html.unescape(output))
    assert sorted(tips) == sorted(
        f"{title}|{name} · {name} · {title}" for title, name in zip(HOSTILE, names, strict=True)
    )
    for text in names:
        assert shown.count(html.escape(text, quote=False)) >= 2, "in the legend and in the tables"


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
