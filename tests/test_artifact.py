"""Model folders: what is loaded is what was saved, and nothing else is ever loaded."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import CANARY, bundled, error_of, needs_bundled_model, small_model
from cli import run
from hypothesis import HealthCheck, given, settings
from safetensors.numpy import load, save
from strategies import WORDS, threads

from grooming_flag import Message, Model, ModelError, ModelIntegrityError, Thread, load_model, save_model
from grooming_flag.artifact import FORMAT, bundled_model, digest, load_card
from grooming_flag.features import FeatureExtractor
from grooming_flag.segments import SegmentRule

FILES = ["README.md", "SHA256SUMS", "config.json", "weights.safetensors"]
CARD = "# A card\n\nOf a model with caf\u00e9 weights.\n"
MEND = r"get a fresh copy|train it again"
FLIPS = [*(1 << bit for bit in range(8)), 0xFF]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder that no test changes."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(tiny(), folder, CARD)
    return folder


DEEP = b'{"format": %d, "lineage": ' % FORMAT + b"[" * 100_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a model folder to damage."""
    folder = tmp_path / "model"
    save_model(tiny(), folder, CARD)
    return folder


def tiny(**changes: Any) -> Model:
    model = small_model(n_features=2**8, rule=SegmentRule(30, 7, 60.5))
    return model.replace(**changes) if changes else model


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    return config


def write_sums(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the settings and the sums with them."""
    config = config_of(folder)
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    write_sums(folder)


# --- round trips -------------------------------------------------------------------------------------------------


def test_a_folder_has_these_files_and_these_alone(saved: Path) -> None:
    assert sorted(contents(saved)) == FILES
    assert (saved / "README.md").read_text(encoding="utf-8") == CARD
    assert not any(path.name.startswith(".") for path in saved.parent.iterdir())


def test_the_digest_of_a_model_is_that_of_its_folder(tmp_path: Path) -> None:
    model = small_model()
    save_model(model, tmp_path / "model")
    assert digest(load_model(tmp_path / "model")) == digest(model)
    assert digest(model.with_prior(0.3)) != digest(model)


def test_what_is_loaded_is_what_was_saved(saved: Path) -> None:
    before, after = tiny(), load_model(saved)
    for name in ("name", "step", "intercept", "calibration", "attribution_scale", "min_amount"):
        assert getattr(after, name) == getattr(before, name)
        assert type(getattr(after, name)) is type(getattr(before, name))
    assert after.segment_rule == before.segment_rule
    assert after.operating_points == before.operating_points
    assert after.lineage == before.lineage
    assert after.extractor.get_params() == before.extractor.get_params()
    assert after.weights.dtype == np.int16
    assert (after.weights == before.weights).all()


def test_the_bounds_of_segments_are_whole_numbers_after_loading(saved: Path) -> None:
    rule = load_model(saved).segment_rule
    assert [type(value) for value in asdict(rule).values()] == [int, int, float]


@given(threads())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_loaded_model_gives_the_same_answers_to_the_last_bit(saved: Path, found: Thread) -> None:
    before, after = tiny(), load_model(saved)
    assert after.assess(found) == before.assess(found)
    assert after.explain(found) == before.explain(found)


def test_two_saves_are_byte_identical(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(tiny(), tmp_path / name, CARD)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_saving_what_was_loaded_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_model(load_model(saved), tmp_path / "again", CARD)
    assert contents(tmp_path / "again") == contents(saved)


@pytest.mark.parametrize("char_ngrams", [None, (2, 16)])
def test_settings_of_every_kind_come_back(tmp_path: Path, char_ngrams: tuple[int, int] | None) -> None:
    extractor = FeatureExtractor(2**8, 1, char_ngrams, seed=2**64 - 1)
    model = tiny(extractor=extractor, segment_rule=SegmentRule(9, 1), operating_points={}, lineage={})
    save_model(model, tmp_path / "model")
    assert load_model(tmp_path / "model").extractor.get_params() == extractor.get_params()
    assert load_model(tmp_path / "model").segment_rule == SegmentRule(9, 1)
    assert load_model(str(tmp_path / "model")).operating_points == {}


def test_sums_are_those_of_sha256sum(saved: Path) -> None:
    for line in (saved / "SHA256SUMS").read_text().splitlines():
        found, name = line.split("  ")
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == found


@needs_bundled_model
def test_the_bundled_model_loads_by_default_and_states_its_measures() -> None:
    assert load_model().name == bundled().name == bundled_model().name
    assert {"balanced", "sensitive"} <= load_model().operating_points.keys()
    for point in load_model().operating_points.values():
        assert 0.0 < point.threshold < 1.0
        assert {"fpr", "recall", "negatives", "positives"} <= point.measured.keys()


@needs_bundled_model
def test_the_bundled_folder_is_what_saving_the_model_writes(tmp_path: Path) -> None:
    card = (bundled_model() / "README.md").read_text(encoding="utf-8")
    measured = bundled_model() / "metrics.json"
    metrics = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else None
    save_model(load_model(), tmp_path / "model", card, metrics)
    same = [name for name, data in contents(bundled_model()).items() if contents(tmp_path / "model")[name] == data]
    assert {"README.md", "weights.safetensors"} <= set(same)
    assert metrics is None or "metrics.json" in same


# --- keys --------------------------------------------------------------------------------------------------------


def keyed(tmp_path: Path, key: str = CANARY) -> Path:
    extractor = FeatureExtractor(2**8, char_ngrams=(4, 4), key=key)
    save_model(tiny(extractor=extractor), tmp_path / "keyed")
    return tmp_path / "keyed"


def test_a_keyed_model_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its features are keyed; pass the key"):
        load_model(keyed(tmp_path))


def test_a_model_without_a_key_takes_none(saved: Path) -> None:
    error = error_of(lambda: load_model(saved, key=CANARY), ModelError)
    assert "pass none" in str(error)
    assert CANARY not in repr(error)


def test_a_wrong_key_gives_other_scores(tmp_path: Path) -> None:
    folder = keyed(tmp_path)
    chance = random.Random(0)
    found = [Thread("t", [Message("a", " ".join(chance.choices(WORDS, k=5)))]) for _ in range(5)]
    right, wrong = load_model(folder, CANARY), load_model(folder, CANARY + "2")
    assert [right.assess(one) for one in found] != [wrong.assess(one) for one in found]
    assert all(right.assess(one).score != wrong.assess(one).score for one in found)


def test_the_key_is_in_no_file_of_the_folder(tmp_path: Path) -> None:
    assert not any(CANARY.encode() in data for data in contents(keyed(tmp_path)).values())


# --- damage ------------------------------------------------------------------------------------------------------


def assert_refused(folder: Path, name: str) -> None:
    error = error_of(lambda: load_model(folder), ModelIntegrityError)
    assert str(folder) in str(error)
    assert name in str(error)
    assert any(mend in str(error) for mend in MEND.split("|"))


def every_flip_is_refused(folder: Path, name: str, places: list[tuple[int, int]]) -> None:
    path = folder / name
    whole = path.read_bytes()
    for place, flip in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        assert_refused(folder, name)
    path.write_bytes(whole)
    load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "README.md"])
def test_every_flipped_byte_is_refused(folder: Path, name: str) -> None:
    size = len((folder / name).read_bytes())
    every_flip_is_refused(folder, name, [(place, FLIPS[place % len(FLIPS)]) for place in range(size)])


def test_every_flipped_bit_of_the_sums_is_refused(folder: Path) -> None:
    sums = (folder / "SHA256SUMS").read_bytes()
    places = [(i, flip) for i in range(len(sums)) for flip in FLIPS if not (sums[i] == 0x0A and flip == 1)]
    every_flip_is_refused(folder, "SHA256SUMS", places)


def test_sums_whose_lines_end_otherwise_are_refused(folder: Path) -> None:
    sums = (folder / "SHA256SUMS").read_bytes()
    places = [(i, 1) for i in range(len(sums)) if sums[i] == 0x0A]  # a line feed becomes a vertical tab
    every_flip_is_refused(folder, "SHA256SUMS", places)


def test_flipped_bytes_of_the_weights_are_refused(folder: Path) -> None:
    size = (folder / "weights.safetensors").stat().st_size
    chance = random.Random(0)
    places = [0, 7, 8, 9, size - 1, *chance.sample(range(size), 100)]
    every_flip_is_refused(folder, "weights.safetensors", [(place, chance.choice(FLIPS)) for place in places])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [b"", b"\n", b"longer\n"])
def test_a_file_that_is_shorter_or_longer_is_refused(folder: Path, name: str, change: bytes) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = error_of(lambda: load_model(folder), ModelIntegrityError)
    assert str(folder / name) in str(error)
    assert "missing" in str(error)


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / name)
    (folder / name).symlink_to(folder.parent / name)
    error = error_of(lambda: load_model(folder), ModelIntegrityError)
    assert str(folder / name) in str(error)
    assert "link" in str(error)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_place_of_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    assert_refused(folder, name)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/config.json", "./config.json", "other", ""])
def test_a_name_in_the_sums_that_is_no_part_of_a_model_is_refused_unread(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text(CANARY)
    canary_sum = hashlib.sha256(CANARY.encode()).hexdigest()
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{canary_sum}  {name}\n")
    error = error_of(lambda: load_model(folder), ModelIntegrityError)
    assert "not part of a model" in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize("name", [name for name in FILES if name != "SHA256SUMS"])
def test_a_file_without_a_sum_is_refused(folder: Path, name: str) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))
    error = error_of(lambda: load_model(folder), ModelIntegrityError)
    assert f"no sum for {name}" in str(error)


def signed(folder: Path) -> tuple[Path, Path]:
    """Sign a folder as SECURITY.md says; return the public key, and one of somebody else."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    keys = []
    for name in ("ours", "theirs"):
        private, public = folder.parent / f"{name}.key", folder.parent / f"{name}.pem"
        subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
        subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", public], check=True)
        keys.append(public)
    sums, signature = folder / "SHA256SUMS", folder / "SHA256SUMS.sig"
    private = folder.parent / "ours.key"
    command = [openssl, "pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", sums, "-out", signature]
    subprocess.run(command, check=True)
    return keys[0], keys[1]


def test_a_model_may_have_to_be_signed(folder: Path) -> None:
    ours, theirs = signed(folder)
    assert load_model(folder, public_key=ours).name == load_model(folder).name
    assert run("info", "--model", folder, "--public-key", ours).status == 0
    assert "not signed by" in str(error_of(lambda: load_model(folder, public_key=theirs), ModelIntegrityError))
    signature = folder / "SHA256SUMS.sig"
    whole = signature.read_bytes()
    for place in range(len(whole)):
        signature.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "not signed by" in str(error_of(lambda: load_model(folder, public_key=ours), ModelIntegrityError))
    for other in (b"", whole + b"\n", whole[:-1]):
        signature.write_bytes(other)
        error_of(lambda: load_model(folder, public_key=ours), ModelIntegrityError)
    signature.unlink()
    assert "missing" in str(error_of(lambda: load_model(folder, public_key=ours), ModelIntegrityError))
    assert run("info", "--model", folder, "--public-key", ours).status == 1


def test_a_forger_who_writes_new_sums_cannot_sign_them(folder: Path) -> None:
    ours, _ = signed(folder)
    card = folder / "README.md"
    card.write_text("forged")
    sums = folder / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith("README.md")]
    sums.write_text("\n".join([*lines, f"{hashlib.sha256(b'forged').hexdigest()}  README.md"]) + "\n")
    load_model(folder)
    error_of(lambda: load_model(folder, public_key=ours), ModelIntegrityError)


@pytest.mark.parametrize("content", [b"", b"tea", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_public_key_is_said(folder: Path, content: bytes) -> None:
    (folder.parent / "key.pem").write_bytes(content)
    error = error_of(lambda: load_model(folder, public_key=folder.parent / "key.pem"), ModelError)
    assert "cannot be read as a public key" in str(error)
    assert not isinstance(error, ModelIntegrityError)


def test_a_signed_folder_may_be_replaced_and_is_then_not_signed(folder: Path) -> None:
    ours, _ = signed(folder)
    save_model(small_model(seed=1), folder)
    error_of(lambda: load_model(folder, public_key=ours), ModelIntegrityError)


def test_a_folder_that_is_not_there_or_is_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("tea")
    for name in ("nothing", "file"):
        error = error_of(lambda name=name: load_model(tmp_path / name), ModelError)  # type: ignore[misc]
        assert "there is no such model folder" in str(error)


def test_files_beside_those_of_the_model_are_not_looked_at(folder: Path) -> None:
    (folder / "notes.txt").write_text("tea")
    assert load_model(folder).name == "small"


# --- consistent sums, unusable contents --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "mend"),
    [
        (FORMAT + 1, "upgrade with"),
        (99, "upgrade with"),
        (None, "upgrade with"),
        (str(FORMAT), "upgrade with"),
        (FORMAT - 1, "train the model again"),
        (0, "train the model again"),
    ],
)
def test_another_format_says_whether_the_library_or_the_model_is_too_old(
    folder: Path, version: object, mend: str
) -> None:
    change_config(folder, lambda config: config.update(format=version))
    error = error_of(lambda: load_model(folder), ModelError)
    assert mend in str(error)
    assert str(folder) in str(error)
    assert not isinstance(error, ModelIntegrityError)


def test_a_newer_format_may_have_other_settings(folder: Path) -> None:
    (folder / "config.json").write_text(f'{{"format": {FORMAT + 1}, "new": []}}')
    write_sums(folder)
    with pytest.raises(ModelError, match="upgrade"):
        load_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("step"),
        lambda config: config.pop("format"),
        lambda config: config.update(step=0.1),
        lambda config: config.update(step="x"),
        lambda config: config.update(heads=["risk"]),
        lambda config: config.update(heads=["attribution", "risk"]),
        lambda config: config.update(heads=["risk", "other"]),
        lambda config: config.update(fold_version=2),
        lambda config: config.update(intercept=0.5),
        lambda config: config["calibration"].update(prior=0.0),
        lambda config: config["calibration"].update(slope=-1.0),
        lambda config: config["calibration"].update(no_lead=-1.0),
        lambda config: config["calibration"].update(lead="x"),
        lambda config: config["calibration"].update(other=1.0),
        lambda config: config["segments"].update(max_messages="x"),
        lambda config: config["features"].update(n_features=2**9),
        lambda config: config["features"].update(n_features=100),
        lambda config: config["features"].update(word_ngrams=3),
        lambda config: config["features"].update(char_ngrams=[5, 4]),
        lambda config: config["features"].update(char_ngrams=[1]),
        lambda config: config["operating_points"]["balanced"].update(threshold=1.5),
        lambda config: config["operating_points"]["balanced"].pop("threshold"),
        lambda config: config.update(tactics=[{"name": "a", "cut": 1}]),
        lambda config: config.update(tactics=[{"name": "a", "cut": 10**30}]),
        lambda config: config.update(tactics=[{"name": "a"}]),
        lambda config: config.update(min_amount=2**63),
    ],
)
def test_settings_that_cannot_be_used_are_a_model_error(
    folder: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    change_config(folder, change)
    assert str(folder) in str(error_of(lambda: load_model(folder), ModelError))


@pytest.mark.parametrize("seed", [-1, 2**128])
def test_a_seed_that_cannot_be_used_is_a_model_error(folder: Path, seed: int) -> None:
    change_config(folder, lambda config: config["features"].update(seed=seed))
    assert str(folder) in str(error_of(lambda: load_model(folder), ModelError))


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"\xff", b'{"format": 1', b'{"format": %d}' % FORMAT, DEEP])
def test_a_config_that_is_none_is_a_model_error(folder: Path, raw: bytes) -> None:
    (folder / "config.json").write_bytes(raw)
    write_sums(folder)
    assert str(folder) in str(error_of(lambda: load_model(folder), ModelError))


def test_tensors_that_do_not_fit_are_a_model_error(folder: Path) -> None:
    path = folder / "weights.safetensors"
    good = load(path.read_bytes())
    for tensors in (
        {"risk": good["risk"]},
        {**good, "risk": good["risk"][:-1]},
        {**good, "risk": good["risk"].astype(np.int32)},
        {name: tensor.astype(np.float32) for name, tensor in good.items()},
        {name: tensor[:128] for name, tensor in good.items()},
        {name: tensor.reshape(2, -1) for name, tensor in good.items()},
    ):
        path.write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))
        write_sums(folder)
        assert str(folder) in str(error_of(lambda: load_model(folder), ModelError))
    path.write_bytes(b"tea")
    write_sums(folder)
    assert str(folder) in str(error_of(lambda: load_model(folder), ModelError))


def test_tensors_of_tactics_without_a_length_are_a_model_error(folder: Path) -> None:
    change_config(folder, lambda config: config.update(tactics=[{"name": "gifts", "cut": 1}]))
    path = folder / "weights.safetensors"
    tactics = {"tactics.buckets": np.zeros((), np.int32), "tactics.weights": np.zeros((), np.int16)}
    path.write_bytes(save({**load(path.read_bytes()), **tactics}))
    write_sums(folder)
    assert "tactics" in str(error_of(lambda: load_model(folder), ModelError))


@pytest.mark.parametrize(("name", "raw"), [("README.md", b"\xff"), ("metrics.json", b"{"), ("metrics.json", DEEP)])
def test_a_card_or_an_evaluation_that_cannot_be_read_is_a_model_error(folder: Path, name: str, raw: bytes) -> None:
    (folder / name).write_bytes(raw)
    write_sums(folder)
    assert str(folder) in str(error_of(lambda: load_card(folder), ModelError))


# --- saving ------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_no_model_is_not_saved_over(tmp_path: Path) -> None:
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "photo.txt").write_text("tea")
    (tmp_path / "file").write_text("tea")
    for name in ("holiday", "file"):
        with pytest.raises(ModelError, match="is not a model folder; choose another name"):
            save_model(tiny(), tmp_path / name)
    assert contents(other) == {"photo.txt": b"tea"}
    assert (tmp_path / "file").read_text() == "tea"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "holiday"]


def test_a_folder_of_other_files_with_sums_is_not_saved_over(tmp_path: Path) -> None:
    other = tmp_path / "downloads"
    other.mkdir()
    (other / "SHA256SUMS").write_text("0" * 64 + "  disk.iso\n")
    (other / "disk.iso").write_text("tea")
    with pytest.raises(ModelError):
        save_model(tiny(), other)
    assert (other / "disk.iso").read_text() == "tea"


@pytest.mark.parametrize("name", ["config.json", "README.md"])
def test_a_folder_that_has_one_file_of_a_common_name_is_not_saved_over(tmp_path: Path, name: str) -> None:
    other = tmp_path / "settings"
    other.mkdir()
    (other / name).write_text("tea")
    with pytest.raises(ModelError, match="is not a model folder"):
        save_model(tiny(), other)


def test_an_empty_folder_and_a_folder_that_is_not_there_become_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "some/new/folder"):
        save_model(tiny(), tmp_path / name)
        assert load_model(tmp_path / name).name == "small"


def test_a_model_folder_is_replaced_whole(folder: Path) -> None:
    save_model(tiny(name="other"), folder, "another card")
    assert load_model(folder).name == "other"
    assert sorted(contents(folder)) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def fail(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_save_that_fails_while_writing_leaves_the_old_folder_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        patch.setattr(os, "write", fail)
        with pytest.raises((OSError, ModelError)):
            save_model(tiny(name="other"), folder)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("nth", [1, 2])
def test_a_save_that_fails_while_renaming_leaves_the_old_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    before = contents(folder)
    left = nth

    def renames(real: Callable[..., Any]) -> Callable[..., Any]:
        def rename(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            return fail() if left == 0 else real(*args, **kwargs)

        return rename

    with monkeypatch.context() as patch:
        for module, name in ((os, "rename"), (os, "replace")):
            patch.setattr(module, name, renames(getattr(module, name)))
        with pytest.raises((OSError, ModelError)):
            save_model(tiny(name="other"), folder)
    assert contents(folder) == before
