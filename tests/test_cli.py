"""The command line as a shell sees it: stdout, stderr, exit codes, files."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from rlviz.types import LENSES
from tests.checkpoints import tiny_base, tiny_pair, write_checkpoint


def rlviz(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlviz", *args], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    return (*tiny_pair(folder), str(folder / "store"))


@pytest.fixture(scope="module")
def compared(pair, tmp_path_factory):
    base, tuned, store = pair
    out = tmp_path_factory.mktemp("out")
    done = rlviz(
        "compare", base, tuned, "--store", store, "--json", str(out / "r.json"), "--csv", str(out / "r.csv"),
        "--arrays", str(out / "r.safetensors"), "--k", "8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done


def test_json_is_the_documented_object(compared):
    out, _ = compared
    found = json.loads((out / "r.json").read_text())
    assert found["schema"] == 1
    summary, tensors = found["summary"], found["tensors"]
    assert set(summary["n_changed"]) == set(summary["update_sparsity"]) == {lens.value for lens in LENSES}
    for key in ("n", "tensors_compared", "tensors_total", "relative_update_norm", "nss", "nss_median"):
        assert summary[key] is not None, key
    assert summary["n"] == sum(t["n"] for t in tensors)
    for lens in LENSES:
        assert summary["n_changed"][lens] == sum(t["n_changed"][lens] for t in tensors)
        assert summary["update_sparsity"][lens] == 1 - summary["n_changed"][lens] / summary["n"]
    matrix = next(t for t in tensors if t["module"] == "q_proj")
    for key in (
        "name", "layer", "module", "shape", "dtype_base", "dtype_tuned", "n", "n_changed", "n_nonfinite",
        "update_norm", "base_norm", "max_abs_update", "nss", "max_principal_angle_left_deg",
        "max_principal_angle_right_deg", "energy_principal", "energy_principal_enrichment", "stable_rank_update",
        "effective_rank_update",
    ):  # fmt: skip
        assert matrix[key] is not None, key
    norm = next(t for t in tensors if len(t["shape"]) == 1)
    assert norm["nss"] is None
    assert {"base", "tuned", "skipped", "provenance"} <= set(found)
    assert {"ref", "commit", "nbytes"} <= set(found["base"])


def test_alpha_is_the_share_that_a_mask_holds(pair, tmp_path):
    base, tuned, store = pair
    found = {}
    for alpha in ("0.1", "0.5"):
        target = tmp_path / f"{alpha}.json"
        probes = ("--probes", "coordinate,spectrum,masks")
        done = rlviz(
            "compare", base, tuned, "--store", store, *probes, "--alpha", alpha, "--json", str(target), "--quiet"
        )
        assert done.returncode == 0, done.stderr
        found[alpha] = json.loads(target.read_text())
        assert found[alpha]["params"]["alpha"] == float(alpha)
    small, large = (found[a]["summary"]["overlap_principal_baseline"] for a in ("0.1", "0.5"))
    assert abs(small - 0.1) < 0.02
    assert abs(large - 0.5) < 0.02
    refused = rlviz("report", base, tuned, "--store", store, "-o", str(tmp_path / "r.html"), "--alpha", "0.4")
    assert refused.returncode == 2
    assert "Give 0.01, 0.05, 0.1, 0.2, 0.3 or 0.5." in refused.stderr


def _null_keys() -> list[str]:
    """The documented columns of the masks and their nulls."""
    ends = ("", "_baseline", "_feasible_min", "_feasible_max", "_null", "_null_sd", "_excess", "_z")
    masks = ("principal", "low_magnitude", "principal_not_low")
    odds = ("log_odds_principal", *(f"log_odds_principal_mh{end}" for end in ("", "_ci_low", "_ci_high")))
    return [*(f"overlap_{mask}{end}" for mask in masks for end in ends), *odds]


@pytest.fixture(scope="module")
def with_nulls(pair, tmp_path_factory):
    """JSON and CSV of all probes, by seed."""
    base, tuned, store = pair
    out = tmp_path_factory.mktemp("nulls")
    found = {}
    for seed in ("0", "1"):
        files = ("--json", str(out / f"{seed}.json"), "--csv", str(out / f"{seed}.csv"))
        probes = ("--probes", "coordinate,spectrum,masks,nulls", "--k", "16", "--quiet")
        done = rlviz("compare", base, tuned, "--store", store, *probes, "--seed", seed, *files)
        assert done.returncode == 0, done.stderr
        with (out / f"{seed}.csv").open() as file:
            found[seed] = json.loads((out / f"{seed}.json").read_text()), list(csv.DictReader(file))
    return found


@pytest.mark.parametrize("key", _null_keys())
def test_json_and_csv_hold_the_masks_with_their_nulls(with_nulls, key):
    found, rows = with_nulls["0"]
    assert found["summary"][key] is not None
    matrices = [t for t in found["tensors"] if len(t["shape"]) == 2]
    assert all(key in t for t in found["tensors"])
    assert sum(t[key] is not None for t in matrices) > len(matrices) / 2
    assert all(t[key] is None for t in found["tensors"] if len(t["shape"]) == 1)
    for row, tensor in zip(rows, found["tensors"], strict=True):
        assert (row[key] == "") == (tensor[key] is None)
        assert not row[key] or float(row[key]) == pytest.approx(tensor[key], rel=1e-12)


def test_the_masks_numbers_hang_together(with_nulls):
    summary = with_nulls["0"][0]["summary"]
    for mask in ("principal", "low_magnitude", "principal_not_low"):
        of = {end: summary[f"overlap_{mask}{end}"] for end in ("", "_feasible_min", "_feasible_max", "_null")}
        assert of["_feasible_min"] <= of[""] <= of["_feasible_max"]
        assert summary[f"overlap_{mask}_excess"] == pytest.approx(of[""] - of["_null"])
        z = summary[f"overlap_{mask}_excess"] / summary[f"overlap_{mask}_null_sd"]
        assert summary[f"overlap_{mask}_z"] == pytest.approx(z)
        assert abs(z) < 4, "the tuned model is noise"
        assert abs(summary[f"overlap_{mask}_baseline"] - 0.3) < 0.1
    low, high = (summary[f"log_odds_principal_mh_ci_{end}"] for end in ("low", "high"))
    assert low < summary["log_odds_principal_mh"] < high


def test_json_and_csv_hold_the_simulated_nulls_of_the_sample(with_nulls):
    found, rows = with_nulls["0"]
    for key in (
        "nss_isotropic", "kappa_iso_isotropic", "stable_rank_update_isotropic", "effective_rank_update_isotropic",
        "energy_principal_isotropic", "energy_left_isotropic", "energy_right_isotropic",
        "max_principal_angle_left_isotropic_deg", "mean_principal_angle_right_isotropic_deg",
        "overlap_principal_shuffle", "overlap_low_magnitude_shuffle_z", "row_dispersion_shuffle",
        "jaccard_principal_low", "jaccard_principal_low_null",
    ):  # fmt: skip
        assert found["summary"][key] is not None, key
        assert sum(bool(row[key]) for row in rows) == sum(t[key] is not None for t in found["tensors"]) > 0, key
    sampled = [t["name"] for t in found["tensors"] if t["nss_isotropic"] is not None]
    assert sampled == sorted({name.replace("layers.0", "layers.1") for name in sampled}), "one of each module"


def test_the_seed_is_of_the_simulated_nulls_only(with_nulls):
    first, other = (with_nulls[seed][0]["summary"] for seed in ("0", "1"))
    differing = {key for key in first if first[key] != other[key]}
    assert {"nss_isotropic", "overlap_principal_shuffle"} <= differing
    simulated = ("isotropic", "shuffle")
    assert all(any(word in key for word in simulated) for key in differing), differing


def test_a_seed_that_is_no_number_is_refused(pair):
    done = rlviz("compare", pair[0], pair[1], "--seed", "many")
    assert done.returncode == 2
    assert "--seed" in done.stderr
    assert "Traceback" not in done.stderr
    refused = rlviz("compare", pair[0], pair[1], "--seed", "-1")
    assert refused.stderr.strip() == "rlviz: seed -1: is not a seed. Give 0 or a positive number."


def test_csv_has_one_row_per_tensor(compared):
    out, _ = compared
    with (out / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = json.loads((out / "r.json").read_text())
    assert [row["name"] for row in rows] == [t["name"] for t in found["tensors"]]
    assert all(
        int(row["n_changed_bf16"]) == t["n_changed"]["bf16"] for row, t in zip(rows, found["tensors"], strict=True)
    )


def test_arrays_are_the_singular_values(pair, compared):
    out, _ = compared
    arrays = load_file(out / "r.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    weight = load_file(Path(pair[0]) / "model.safetensors")[name].astype(np.float64)
    np.testing.assert_allclose(
        arrays[f"{name}/singular_values_base"], np.linalg.svd(weight, compute_uv=False), rtol=1e-6
    )
    assert {key.rsplit("/")[-1] for key in arrays} == {f"singular_values_{s}" for s in ("base", "tuned", "update")}


def test_results_go_to_stdout_progress_to_stderr(pair, compared):
    base, tuned, store = pair
    done = rlviz("compare", base, tuned, "--store", store, "--json", "-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["schema"] == 1
    assert "unchanged" in compared[1].stdout


def test_several_tuned_models_give_a_list(pair):
    base, tuned, store = pair
    done = rlviz("compare", base, tuned, base, "--store", store, "--json", "-", "--quiet", "--probes", "coordinate")
    found = json.loads(done.stdout)
    assert [f["summary"]["update_sparsity"]["stored"] == 1 for f in found] == [False, True]


def test_plan_reads_no_weight_and_says_what_it_would(pair, tmp_path):
    base, tuned, _ = pair
    done = rlviz("plan", base, tuned, "--json", "-", "--store", str(tmp_path))
    found = json.loads(done.stdout)
    size = sum(Path(p, "model.safetensors").stat().st_size for p in (base, tuned))
    assert 0.5 * size < found["bytes_to_read"] < 4.1 * size  # local files are read in place, once a probe
    assert set(found["probes"]) == {"coordinate", "spectrum", "masks", "nulls"}
    assert found["seconds"] > 0
    assert "tensors compared" in rlviz("plan", base, tuned, "--store", str(tmp_path)).stdout
    assert not list(tmp_path.rglob("*.safetensors"))


def test_store_list_show_remove(pair, compared):
    base, tuned, store = pair
    key = json.loads(rlviz("plan", base, tuned, "--store", store, "--json", "-").stdout)["key"]
    assert key[:12] in rlviz("store", "list", "--store", store).stdout
    shown = json.loads(rlviz("store", "show", key[:12], "--store", store, "--json", "-").stdout)
    assert shown["summary"]["n"] > 0
    other = rlviz("compare", base, base, "--store", store, "--quiet", "--probes", "coordinate", "--tensors", "*norm*")
    assert other.returncode == 0
    doomed = next(
        line[:12] for line in rlviz("store", "list", "--store", store).stdout.splitlines() if " 3 tensors" in line
    )
    assert "removed" in rlviz("store", "remove", doomed, "--store", store).stdout
    assert doomed not in rlviz("store", "list", "--store", store).stdout


def test_errors_are_one_sentence_with_the_right_exit_code(pair, tmp_path):
    base, tuned, store = pair
    broken = tmp_path / "broken"
    write_checkpoint(broken, tiny_base())
    (broken / "model.safetensors").write_bytes(b"\xff" * 40)
    other = write_checkpoint(tmp_path / "other", {"something.else": np.zeros((3, 5), np.float32)})
    cases = {
        2: [
            ["a b c", tuned],
            ["https://example.com/a/b", tuned],
            [base, tuned, "--probes", "nonsense"],
            [base, tuned, "--k", "0"],
            [base, tuned, "--alpha", "0.25"],
            [base, tuned, "--alpha", "0"],
            [base, tuned, "--alpha", "nan"],
            [base, tuned, "--seed", "-1"],
        ],
        3: [["org/model", tuned], [str(tmp_path / "absent"), tuned]],
        4: [[base, str(broken)]],
        5: [[base, str(other)], [base, tuned, "--tensors", "*nothing*"]],
    }
    for code, commands in cases.items():
        for arguments in commands:
            done = rlviz("compare", *arguments, "--store", store, "--quiet", HF_ENDPOINT="http://127.0.0.1:9")
            assert done.returncode == code, (arguments, done.stderr)
            assert "Traceback" not in done.stderr
            assert done.stderr.startswith("rlviz: ")
            assert done.stdout == ""


def test_outputs_that_cannot_be_written_are_refused_first(pair, tmp_path):
    base, tuned, store = pair
    file = tmp_path / "file"
    file.write_text("")
    for arguments in (
        ["--store", str(file)],
        ["--store", "/proc/nowhere"],
        ["--store", store, "--json", str(tmp_path)],
        ["--store", store, "--json", str(tmp_path / "absent" / "r.json")],
        ["--store", store, "--json", "-", "--csv", "-"],
        ["--store", store, "--arrays", "-"],
        ["--store", store, "--arrays", str(tmp_path / "a.safetensors"), "--probes", "coordinate"],
        ["--store", store, "--budget-minutes", "nan"],
        ["--store", store, "--k", "999"],
        ["--store", store, "--workers", "0"],
    ):
        done = rlviz("compare", base, tuned, "--quiet", *arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.startswith("rlviz: "), arguments
        assert "Traceback" not in done.stderr


def test_hosted_mode_tells_nothing_of_its_folders(tmp_path):
    (tmp_path / "org" / "name").mkdir(parents=True)
    for ref in ("org/name", "org/absent"):
        done = subprocess.run(
            [sys.executable, "-m", "rlviz", "plan", ref, "demo:rl"], capture_output=True, text=True, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "RLVIZ_MODE": "hosted"}, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert "is a folder here" not in done.stderr
    assert rlviz("plan", str(tmp_path), "demo:rl", RLVIZ_MODE="hosted").returncode == 2


def test_folder_without_dot_slash_is_explained(pair):
    folder = Path(pair[0])
    done = subprocess.run(
        [sys.executable, "-m", "rlviz", "plan", f"{folder.parent.name}/base", pair[1]],
        capture_output=True, text=True, cwd=folder.parent.parent, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 2
    assert f"write ./{folder.parent.name}/base" in done.stderr


def test_interrupt_is_130_without_traceback(pair, tmp_path):
    script = (
        "import sys, time, rlviz.store.store as s\n"
        "put = s.Store.put\n"
        "s.Store.put = lambda self, k, r: (time.sleep(0.3), put(self, k, r))\n"
        "from rlviz.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "compare", pair[0], pair[1], "--store", str(tmp_path), "--quiet"],
        stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores SIGINT and passes that on; a terminal's foreground job does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert "cancelled" in stderr
