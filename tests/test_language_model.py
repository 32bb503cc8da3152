"""Are texts cut, scored, chosen by and generated from as docs/language_model.md says?"""

import json
import math

import pytest
import torch
from scripts import ROOT, Pictures, load
from torch import nn

language_model, language_page = load("language_model"), load("language_model_page")
pictures = Pictures(language_page)
experiment = language_model.experiment
VARIANTS = language_model.VARIANTS
CELL = {"width": 32, "length": 24, "layers": 2, "steps": 4, "batch": 3, "head": 16, "rate": 1e-2, "seed": 0}
TEXT = "".join("ab c"[(i * i // 3) % 4] for i in range(1200))


def made(variant, n_symbols=6):
    """A model in float64 whose next characters depend on what came before and where, as after training."""
    network = language_model.network_of({**CELL, "variant": variant})
    model = language_model.make_model(network, n_symbols, torch.Generator().manual_seed(0))
    for weight, size in ((model.read_out.weight, 0.3), (model.read_in.weight, 1.0), (model.positions, 1.0)):
        nn.init.normal_(weight, std=size, generator=torch.Generator().manual_seed(1))
    return model.double()


# --- the text ---------------------------------------------------------------------------------------------------


def test_a_text_is_cut_in_order_and_unknown_characters_share_a_number():
    corpus = language_model.make_corpus("ab" * 9 + "aZ", "two")
    assert (corpus.symbols, corpus.n_symbols) == ("ab", 3)
    assert [part.tolist() for part in (corpus.train, corpus.validation, corpus.test)] == [[0, 1] * 9, [0], [2]]
    assert corpus.decode(torch.tensor([1, 0, 2])) == "ba\N{REPLACEMENT CHARACTER}"


def test_a_text_comes_from_a_file_or_from_python(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("Über", encoding="utf-8")
    assert language_model.read_text(path) == ("Über", "some.txt")
    text, name = language_model.read_text(None)
    assert name == "pydoc_data.topics"
    assert "assert" in text
    assert len(text) > 10**5


def test_loss_is_the_mean_over_whole_sequences_one_after_another():
    model = made("standard", n_symbols=4)
    part = torch.randint(4, (24 * 3 + 7,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        losses = []
        for start in (0, 24, 48):
            chances = model(part[None, start : start + 24])[0].softmax(dim=1)
            losses += [-math.log(chances[i, part[start + i + 1]]) for i in range(24)]
    assert language_model.evaluate(model, part) == pytest.approx(sum(losses) / 72, rel=1e-10)
    assert language_model.pieces(part[:25], 24).shape == (1, 25)
    with pytest.raises(ValueError, match="a part of 24 characters has no sequence of 24"):
        language_model.pieces(part[:24], 24)


def test_batches_are_those_of_the_seed_and_lie_inside_the_part():
    part = torch.arange(26)
    read = []

    def model(x):
        read.append(x)
        return torch.zeros(*x.shape, 26)

    for seed in (0, 0, 1):
        for loss in language_model._batches(model, part, {**CELL, "seed": seed, "steps": 8}, []):
            loss()
    first, again, other = (torch.cat(read[start : start + 8]) for start in (0, 8, 16))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sorted({row[0].item() for row in first}) == [0, 1], "both places where a sequence and its next fit"
    assert torch.equal(first, first[:, :1] + torch.arange(24))


# --- variants ---------------------------------------------------------------------------------------------------


def test_ranks_keep_the_papers_proportions():
    shares = language_model.SHARES
    assert language_model.spread_ranks(shares["mlr_paper"], 64) == (32, 8, 6, 4, 4, 4, 4, 2)
    assert language_model.spread_ranks(shares["mlr_paper"], 32) == (16, 4, 3, 2, 2, 2, 2, 1)
    assert language_model.spread_ranks(shares["mlr_paper"], 24) == (12, 3, 2, 2, 2, 1, 1, 1)
    assert language_model.spread_ranks(shares["mlr_equal"], 32) == (4,) * 8
    with pytest.raises(ValueError, match="need heads of more than 8 features"):
        language_model.spread_ranks(shares["mlr_paper"], 8)


def test_networks_are_what_their_names_say():
    standard, wide = (language_model.network_of({**CELL, "width": w, "variant": "standard"}) for w in (32, 64))
    scales = [made("standard").stack.blocks[0].attention.score.scale]
    scales += [experiment._head_scale(network) for network in (standard, wide)]
    assert scales == pytest.approx([16**-0.5] * 3), "heads of one width have one factor, however many there are"
    shifted = [block.attention.score.offset > 0 for block in made("mlr_shifted").stack.blocks]
    assert shifted == [False, True]
    assert made("mlr_two").stack.blocks[0].attention.score.block_sizes == (24, 12)
    assert made("sliding_window").stack.blocks[0].attention.pattern.window == 12
    turned = {name: made(name).stack.blocks[0].attention.score.rotary is not None for name in VARIANTS[:3]}
    assert turned == {"standard": False, "standard_rotary": True, "sliding_window": False}
    with pytest.raises(ValueError, match="width must be a multiple of the heads' 16 features; got 40"):
        language_model.network_of({**CELL, "width": 40, "variant": "standard"})


def one_softmax_by_loops(layer, x):
    """Scores of the far half for every past key, of the near half inside the window, one softmax: pair by pair."""
    q, k = layer.score.features(x)
    v, half = layer._values(x), layer.d_global
    out = torch.zeros_like(v)
    for head in range(q.shape[1]):
        for i in range(x.shape[1]):
            scores = []
            for j in range(i + 1):
                n = q.shape[3] if i - j < layer.local.window else half
                scores.append(sum((q[0, head, i, f] * k[0, head, j, f]).item() for f in range(n)) * layer.scale)
            top = max(scores)
            weights = [math.exp(score - top) for score in scores]
            for j, weight in enumerate(weights):
                out[0, head, i] += weight / sum(weights) * v[0, head, j]
    return layer.out(out.transpose(1, 2).flatten(2))


@torch.no_grad()
def test_one_softmax_equals_loops_whole_and_step_by_step(assert_close):
    generator = torch.Generator().manual_seed(3)
    layer = experiment.OneSoftmaxAttention(16, 2, window=4, scale=0.7, generator=generator).double()
    x = torch.randn(1, 11, 16, generator=generator, dtype=torch.float64)
    expected = one_softmax_by_loops(layer, x)
    assert_close(layer(x), expected)
    assert_close(layer.weights(x).sum(dim=3), torch.ones(1, 2, 11))
    cache = layer.make_cache(1, 11, dtype=torch.float64)
    stepped = [layer.step(x[:, :6], cache), *(layer.step(x[:, i : i + 1], cache) for i in range(6, 11))]
    assert_close(torch.cat(stepped, dim=1), expected)
    with pytest.raises(ValueError, match="takes no key_mask"):
        layer(x, key_mask=torch.ones(1, 11, dtype=torch.bool))


def test_multiply_adds_of_one_softmax_average_the_values_once():
    count = {v: experiment.multiply_adds(made(v)) for v in ("standard", "global_local", "global_local_one")}
    far, near = 24 * 25 // 2, sum(min(i + 1, 12) for i in range(24))
    heads_of_layers = 2 * 2
    maps = count["standard"] - heads_of_layers * far * 32
    assert count["global_local_one"] == maps + heads_of_layers * (far * (8 + 16) + near * 8)
    assert count["global_local"] == count["global_local_one"] + heads_of_layers * near * 16


# --- generation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_text_with_the_cache_is_the_text_by_whole_passes(variant, drawn):
    model = made(variant)
    prompt = torch.tensor([[0, 3, 1], [5, 5, 2]])
    sources = [torch.Generator().manual_seed(4) if drawn else None for _ in range(2)]
    cached, whole = (
        language_model.generate(model, prompt, 21, source, cached=way)
        for source, way in zip(sources, (True, False), strict=True)
    )
    assert torch.equal(cached, whole)
    assert torch.equal(cached[:, :3], prompt)
    assert cached.shape == (2, 24)
    assert len(set(cached[0, 3:].tolist())) > 1, "a text of one character would equal anything"


def test_draws_have_the_chances_of_the_model():
    logits = torch.tensor([[0.0, math.log(2.0), math.log(5.0)]]).expand(4000, 3)
    drawn = language_model._draw(logits, torch.Generator().manual_seed(5)).flatten()
    shares = torch.bincount(drawn, minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([1.0, 2.0, 5.0]) / 8, rtol=0, atol=0.03)
    assert set(language_model._draw(logits, None).flatten().tolist()) == {2}


def test_a_text_that_does_not_fit_is_refused():
    model = made("standard")
    with pytest.raises(ValueError, match=r"must fit the model's length of 24; got 3 \+ 22 tokens"):
        language_model.generate(model, torch.zeros(1, 3, dtype=torch.long), 22)
    with pytest.raises(ValueError, match="needs a first token"):
        language_model.generate(model, torch.zeros(1, 0, dtype=torch.long), 2)


def test_the_cache_holds_what_the_formula_says():
    cells = {cell["variant"]: cell for cell in language_model.cache_cells()}
    assert set(cells) == set(VARIANTS)
    found = language_model.cache_bytes(cells["mlr_paper"])
    ranks, sizes = (32, 8, 6, 4, 4, 4, 4, 2), [1024 // 2**level for level in range(8)]
    numbers = sum(rank * size for rank, size in zip(ranks, sizes, strict=True))
    assert found["key_bytes"] * 1024 * 64 == found["full_key_bytes"] * numbers
    assert found["value_bytes"] == found["full_value_bytes"] == 6 * 1024 * 256 * 4
    assert found["key_bytes"] / found["full_key_bytes"] == pytest.approx(0.60, abs=0.005)
    two = language_model.cache_bytes({**cells["global_local"], "layers": 1})
    # Half of the features whole, half in a window; the values in the window twice.
    assert two["key_bytes"] / two["full_key_bytes"] == 0.75
    assert two["value_bytes"] / two["full_value_bytes"] == 1.5


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """What a small grid leaves, and a function that runs it again."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.txt").write_text(TEXT, encoding="utf-8")
    sizes = [f"--{name}={CELL[name]}" for name in language_model.SIZES]
    grid = ["--width=32", "--width=16", "--rate=0.01", "--rate=0.0001", "--seed=0", "--seed=1"]
    chosen = ["--variant=standard", "--variant=mlr_paper"]
    argv = ["--text", str(folder / "tiny.txt"), "--out", str(folder / "runs.jsonl"), *sizes, *grid, *chosen]

    def again(*more):
        assert language_model.main([*argv, *more]) == 0
        return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]

    return again(), again, folder / "runs.jsonl"


def of_kind(rows, kind):
    return [row for row in rows if row["kind"] == kind]


def test_the_rate_is_chosen_by_validation_at_the_smallest_width(recorded):
    rows, _, _ = recorded
    for choice in of_kind(rows, "rate"):
        tried = [r for r in of_kind(rows, "run") if (r["variant"], r["width"], r["seed"]) == (choice["variant"], 16, 0)]
        losses = {row["rate"]: row["validation"] for row in tried}
        assert choice["rates"] == [0.0001, 0.01]
        assert choice["losses"] == [losses[0.0001], losses[0.01]]
        assert choice["chosen"] == min(losses, key=losses.get)
        others = [r for r in of_kind(rows, "run") if r["variant"] == choice["variant"] and r not in tried]
        assert {(r["width"], r["seed"]) for r in others} == {(16, 1), (32, 0), (32, 1)}
        assert {r["rate"] for r in others} == {choice["chosen"]}
    assert len(of_kind(rows, "rate")) == 2
    assert len(of_kind(rows, "cache")) == len(VARIANTS)


def test_choosing_never_reads_the_test_loss(monkeypatch, tmp_path):
    """Were the test loss read, the rate that it likes would win."""
    liked = {1e-4: {"validation": 2.0, "test": 1.0}, 1e-2: {"validation": 1.0, "test": 2.0}, 1.0: {"validation": None}}
    monkeypatch.setattr(language_model, "run", lambda cell, corpus, n: {**cell, **liked[cell["rate"]]})
    cell = {"kind": "run", "variant": "standard", **{n: CELL[n] for n in language_model.SIZES}, "text_sha256": "0"}
    records = {k: experiment.Records(tmp_path / "r.jsonl", key) for k, key in language_model._KEYS.items()}
    options = language_model._options(["--width=16", "--rate=0.0001", "--rate=0.01", "--rate=1"])
    assert language_model.choose_rate(cell, options, None, records) == 1e-2
    options.rate = [1.0]
    with pytest.raises(ValueError, match=r"standard learnt with none of the rates \[1\.0\]"):
        language_model.choose_rate({**cell, "variant": "standard"}, options, None, records)


def test_a_recorded_run_is_not_run_again(recorded, monkeypatch):
    rows, again, _ = recorded
    run = language_model.run
    made = []
    monkeypatch.setattr(language_model, "run", lambda cell, *rest: made.append(cell) or run(cell, *rest))
    assert again() == rows
    assert made == []


def test_a_run_again_gives_the_same_losses_and_a_text(recorded, monkeypatch, capsys):
    rows, _, _ = recorded
    first = of_kind(rows, "run")[0]
    cell = {name: first[name] for name in language_model._KEYS["run"]}
    corpus = language_model.make_corpus(TEXT, "tiny.txt")
    assert corpus.sha256 == first["text_sha256"]
    monkeypatch.setattr(language_model, "_PROMPT", 5)
    second = json.loads(json.dumps(language_model.run(cell, corpus, 9)))
    for name in ("validation", "test", "curve", "parameters", "multiply_adds", "vocabulary", "characters"):
        assert second[name] == first[name]
    assert first["curve"][-1][0] == CELL["steps"]
    assert first["curve"][-1][2] == first["validation"]
    told = capsys.readouterr().out
    assert f"\n{corpus.decode(corpus.validation[:5])}" in told
    assert "by whole passes, the same text]" in told


def test_a_prompt_must_leave_room(capsys):
    with pytest.raises(SystemExit):
        language_model._options(["--length=40", "--generate=9"])
    assert "--generate must leave 32 of --length 40" in capsys.readouterr().err
    paper = language_model._options(["--paper", "--steps=5"])
    assert (paper.length, paper.layers, paper.head, paper.steps) == (1024, 6, 64, 5)
    assert paper.width == [256, 384, 512, 768]


# --- the page ---------------------------------------------------------------------------------------------------


def row(variant="standard", width=64, seed=0, rate=0.01, **changes):
    setting = {"length": 256, "layers": 2, "steps": 10, "batch": 4, "head": 32, "text_sha256": "abcdef0123"}
    origin = {"commit": "c" * 40, "versions": {"torch": "9"}, "machine": "m", "finished": "t"}
    results = {"validation": 2.0, "test": 2.0, "multiply_adds": 10**6, "seconds": 3.0, "curve": [], "parameters": 7}
    text = {"text": "t.txt", "vocabulary": 5, "characters": [9, 1, 1], "ranks": None}
    own = {"kind": "run", "variant": variant, "width": width, "seed": seed, "rate": rate}
    return {**own, **setting, **origin, **results, **text, **changes}


def choice(variant="standard", **changes):
    return row(variant, **{"kind": "rate", "rates": [0.001, 0.01], "losses": [2.5, 2.0], "chosen": 0.01, **changes})


def test_variants_of_the_page_are_those_of_the_script():
    assert tuple(language_page.VARIANTS) == VARIANTS
    assert language_model.FILE == language_page.FILE


def test_the_page_shows_what_was_recorded(recorded):
    rows, _, path = recorded
    assert json.loads(json.dumps(language_page.read_rows(path))) == rows
    text = language_page.table(rows)
    for found in of_kind(rows, "cache"):
        assert f"| {found['variant']} |" in text
    assert "tiny.txt" in text
    assert "| 32 | mlr_paper | 8, 2, 1, 1, 1, 1, 1, 1 |" in text
    assert language_page.table([]) == "No run is recorded yet."


def test_losses_are_compared_seed_by_seed_and_at_equal_compute():
    rows = [choice(), choice("mlr_paper")]
    for seed, noise in ((0, 0.0), (1, 0.2)):
        rows += [row(width=64, seed=seed, test=2.0 + noise), row(width=128, seed=seed, test=1.6 + noise,
                 multiply_adds=4 * 10**6)]  # fmt: skip
        rows.append(row("mlr_paper", 128, seed, test=1.65 + 2 * noise, multiply_adds=2 * 10**6))
    rows += [row("mlr_paper", 64, 0, rate=0.001, test=0.5), row("sliding_window", 64, test=0.1)]
    text = language_page.table(rows)
    # Half way between two widths on the logarithm standard has 1.9.
    assert "| 128 | mlr_paper |  | 2.0 | 50.0% | 7 | 0.01 | 2.0000 ± 0.0000 | 1.8500 ± 0.2828 |" in text
    assert "| +0.1500 (+0.0500 to +0.2500) | -0.0500 | 2 | 3 |" in text
    assert "| **1.7000 ± 0.1414** |" in text
    assert (
        "`mlr_paper` against `standard`: lower in 0 of 2 pairs of runs, and at equal compute at 1 of 1 widths" in text
    )
    assert "0.5" not in text, "a rate that was not chosen is no result"
    assert "| 64 | sliding_window" not in text, "nor is a run whose rate nobody has chosen"
    assert "| 64 | standard | 2.5000 | **2.0000** |" in text
    assert "In 2 of 2 choices it is the lowest or the highest that was tried." in text
    inner = choice(rates=[0.001, 0.01, 0.1], losses=[2.5, 2.0, 2.2])
    assert "In 0 of 1 choices" in language_page.table([inner])


def test_levels_and_standard_attention_with_positions_are_compared():
    rows = [choice(name) for name in ("standard_rotary", "mlr_rotary")]
    rows += [row("standard_rotary", seed=seed, test=2.0) for seed in (0, 1)]
    rows += [row("mlr_rotary", seed=seed, test=test) for seed, test in ((0, 1.8), (1, 2.1), (2, 0.1))]
    told = "from the start: lower in 1 of 2 pairs of runs, by 0.0500 in the mean."
    assert f"`mlr_rotary` against `standard_rotary`, both of which know positions {told}" in language_page.table(rows)


def test_a_run_without_a_finite_loss_is_named():
    rows = [choice(), row(), row(width=128, test=None, validation=None)]
    text = language_page.table(rows)
    assert "| 7 | 0.01 | diverged | diverged |" in text
    assert list(language_page._numbers(rows).values()) == [{"standard": [[10**6, 2.0, 2.0, 2.0]]}]


def test_the_figure_follows_the_numbers(tmp_path):
    rows = [choice(), row(), row(width=128, test=1.5, multiply_adds=3 * 10**6), row(seed=1, test=2.1)]
    picture = tmp_path / language_page.PICTURE
    assert pictures.outdated(tmp_path, []) == []
    assert pictures.outdated(tmp_path, rows) == [picture.name]
    pictures.update(tmp_path, rows)
    drawn = picture.read_bytes()
    assert pictures.outdated(tmp_path, rows) == []
    picture.unlink()
    pictures.update(tmp_path, rows)
    assert picture.read_bytes() == drawn
    changed = [*rows[:-1], row(seed=1, test=2.2)]
    assert pictures.outdated(tmp_path, changed) == [picture.name]
    pictures.update(tmp_path, changed)
    assert picture.read_bytes() != drawn
    assert pictures.outdated(tmp_path, []) == [picture.name]
    pictures.update(tmp_path, [])
    assert not picture.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(), "says two things of"),
        (row("typo"), "a variant typo, which has no name here"),
        ({name: value for name, value in row(seed=3).items() if name != "test"}, "line 2 lacks test"),
        (row(seed=3, commit=None), "commit is None"),
        ({**row(), "kind": "walk"}, "not a record of run or rate or cache"),
    ],
)
def test_damaged_records_are_refused(tmp_path, wrong, message):
    path = tmp_path / language_page.FILE
    path.write_text(f"{json.dumps(row())}\n{json.dumps(wrong)}\n")
    with pytest.raises(ValueError, match=message):
        language_page.read_rows(path)


def test_the_page_holds_the_marks():
    text = (ROOT / "docs" / "language_model.md").read_text(encoding="utf-8")
    assert all(text.count(mark) == 1 for mark in language_page.MARKS)
