"""Every recipe at every scale: its runs are valid, and its figures and published numbers speak of runs that it has."""

import os
from pathlib import Path

import pytest

from elboroom import build
from elboroom import runs as run_files
from elboroom.errors import InputError
from elboroom.report import report
from elboroom.report.folders import RunFolder
from elboroom.report.panels import chosen
from elboroom.studies import study as studies

SCALES = [(name, scale) for name in studies.recipes() for scale in (None, *studies.find(name).scales)]


def planned(study, out):
    return studies.plan(study, out)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_figures_and_published_numbers_speak_of_runs_that_there_are(name, scale, tmp_path):
    study = studies.scaled(studies.find(name), scale)
    runs = [RunFolder(path=run.folder, variant=run.variant, axes=run.axes) for run in planned(study, tmp_path)]
    assert runs
    for figure in study.figures:
        found = chosen(runs, figure.where)
        assert found or figure.kind == "diagram", figure.name
        for key, value in figure.where.items():  # none of a list is missing
            wanted = value if isinstance(value, list) else [value]
            assert {r.variant if key == "variant" else r.axes[key] for r in found} == set(wanted), figure.name
        assert set(figure.picks) <= {run.variant for run in runs}
    for row in study.published:
        assert chosen(runs, row["where"]), row


@pytest.mark.parametrize("name", studies.recipes())
def test_epochs_of_figures_are_kept(name, tmp_path):
    study = studies.scaled(studies.find(name), None)
    for run in planned(study, tmp_path):
        kept = {*run.config.training.keep_epochs, run.config.training.epochs}
        for figure in study.figures:
            if run.variant in figure.where.get("variant", ()):
                assert set(figure.epochs) <= kept, (figure.name, run.variant)


@pytest.mark.parametrize("name", ["mu-vae"])
def test_the_smoke_scale_goes_from_data_to_scores(name, tmp_path):
    carried_out(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in studies.recipes() if n not in ("mu-vae", "mae", "parts")])
def test_the_smoke_scale_of_the_others_too(name, tmp_path):
    if name == "aevb-frey" and "ELBOROOM_DATA" not in os.environ:
        pytest.skip("$ELBOROOM_DATA names no folder of data files, and these images are Frey's at each scale")
    carried_out(name, tmp_path)


def carried_out(name, out):
    study = studies.scaled(studies.find(name), "smoke")
    runs = planned(study, out)
    studies.carry_out(study, out, runs, cache=out.parent / "cache")  # classifiers and controls are made once
    assert {run.status for run in runs} <= {"done", "diverged"}  # unbounded readings of μ-VAE may diverge
    assert all((run.folder / "scores.json").is_file() for run in runs if run.status == "done")
    report([out])
    assert {p.stem for p in (out / "figures").glob("*.png")} >= {figure.name for figure in study.figures}


def test_a_run_may_start_from_another_of_its_study(tmp_path):
    runs = {run.variant: run for run in planned(studies.find("iwae"), tmp_path / "out")}
    assert runs["vae-1-then-iwae-50"].config.init_from == str(runs["vae-1-short"].folder)
    assert runs["vae-1-short"].config.init_from is None


def test_where_a_run_starts_names_folder_and_axes_only():
    with pytest.raises(InputError, match=r"holds \{sed\}; it may hold \{out\}, \{seed\}"):
        studies._placed("{out}/vae/seed-{sed}", Path("out"), {"seed": 0})


def test_a_study_that_starts_runs_from_its_own_goes_on_also_where_it_was_moved(tmp_path, monkeypatch):
    """What config.yaml says of the start is relative to the run; planned from a relative folder or from another."""
    monkeypatch.chdir(tmp_path)
    study = studies.scaled(studies.find("iwae"), "smoke")
    for run in planned(study, Path("here")):
        run_files.create(run.config, run.folder)
    Path("here").rename("there")
    for run in planned(study, Path("there")):
        studies.look(run)
        assert run.status == "new"
    text = Path("there/vae-1-then-iwae-50/seed-0/config.yaml").read_text()
    assert "init_from: ../../vae-1-short/seed-0" in text


def test_iwae_is_burdas_network(tmp_path):
    """SPEC 4: 217,300 + 207,984 parameters."""
    run = planned(studies.find("iwae"), tmp_path)[0]
    model = build.model(run.config, (1, 28, 28), "binary")
    assert sum(p.numel() for p in model.encoder.parameters()) == 217_300
    assert sum(p.numel() for p in model.decoder.parameters()) == 207_984
