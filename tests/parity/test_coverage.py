"""No parity case goes missing: lists, manifests, files and tests must all name the same ones."""

import ast
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from golden_store import GOLDEN_DIR, GoldenError, load_case, load_manifest, save_case

HERE = Path(__file__).parent
# Every family with the number of its cases: its list, its manifest and its files must all have that many.
# A family joins here, with make_golden_<family>.py and test_<family>_parity.py beside this file.
NUM_CASES = {
    "bert": 2,
    "functional": 9,
    "gpt": 1,
    "recurrent": 16,
    "transformer": 20,
}


def parity_tests(family):
    """The family's ``CASES`` and, for ``test_golden`` and ``test_live``, their decorators; read, not run."""
    tree = ast.parse((HERE / f"test_{family}_parity.py").read_text())
    cases, decorators = None, {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["CASES"]:
            cases = ast.literal_eval(node.value)
        if isinstance(node, ast.FunctionDef) and node.name in ("test_golden", "test_live"):
            decorators[node.name] = [ast.unparse(decorator) for decorator in node.decorator_list]
    return cases, decorators


@pytest.mark.parametrize("family", NUM_CASES)
def test_list_manifest_and_files_agree(family):
    cases, _ = parity_tests(family)
    assert cases is not None, f"test_{family}_parity.py must have a literal list CASES"
    assert len(set(cases)) == len(cases)
    assert len(cases) >= NUM_CASES[family], (
        f"{len(cases)} cases listed, {NUM_CASES[family]} needed: one was deleted"
    )
    assert len(cases) == NUM_CASES[family], f"raise NUM_CASES['{family}'] to {len(cases)}"
    assert set(load_manifest(family)) == set(cases)
    assert {path.stem for path in (GOLDEN_DIR / family).iterdir()} == set(cases)


@pytest.mark.parametrize("family", NUM_CASES)
def test_every_golden_file_is_the_one_that_the_manifest_names(family):
    for case, entry in load_manifest(family).items():
        assert load_case(family, case), f"{family}/{case} holds nothing"
        assert entry["program"], f"{family}/{case} does not say which program made it"
        assert entry["version"], f"{family}/{case} does not say which version made it"


@pytest.mark.parametrize("family", NUM_CASES)
def test_every_listed_case_is_run(family):
    _, decorators = parity_tests(family)
    wanted = ["pytest.mark.parametrize('case', CASES)"]
    assert decorators == {"test_golden": wanted, "test_live": wanted}, "no skips, no partial lists"


def test_no_family_is_unlisted():
    assert {path.stem for path in GOLDEN_DIR.glob("*.json")} == set(NUM_CASES)
    assert {path.name for path in GOLDEN_DIR.iterdir() if path.is_dir()} == set(NUM_CASES)
    assert {path.name for path in HERE.glob("test_*_parity.py")} == {
        f"test_{name}_parity.py" for name in NUM_CASES
    }


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setattr("golden_store.GOLDEN_DIR", tmp_path)
    return tmp_path


def test_store_gives_back_what_was_saved(empty_store):
    save_case("family", "case", {"x": np.arange(3.0), "n": np.arange(2)}, "1.2")
    save_case("family", "other", {"x": np.ones(1, np.float32)}, "1.3", program="else")
    loaded = load_case("family", "case")
    assert loaded["x"].dtype == np.float32
    np.testing.assert_array_equal(loaded["x"], [0, 1, 2])
    np.testing.assert_array_equal(loaded["n"], [0, 1])
    manifest = json.loads((empty_store / "family.json").read_text())["cases"]
    assert manifest["other"]["program"] == "else"
    assert manifest["case"]["version"] == "1.2"
    digest = hashlib.sha256((empty_store / "family" / "case.npz").read_bytes()).hexdigest()
    assert manifest["case"]["sha256"] == digest


def test_store_refuses_changed_missing_and_unlisted_files(empty_store):
    save_case("family", "case", {"x": np.arange(3.0)}, "1.2")
    with pytest.raises(GoldenError, match=r"not in family\.json"):
        load_case("family", "unknown")
    with pytest.raises(GoldenError, match="no manifest"):
        load_case("nobody", "case")
    path = empty_store / "family" / "case.npz"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(GoldenError, match="SHA-256"):
        load_case("family", "case")
    path.unlink()
    with pytest.raises(GoldenError, match="missing"):
        load_case("family", "case")


def test_store_refuses_objects(empty_store):
    with pytest.raises(GoldenError, match="dtype object"):
        save_case("family", "case", {"x": np.array([{}])}, "1.2")
