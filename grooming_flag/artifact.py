"""Model folders: config.json, weights.safetensors, README.md (the card) and SHA256SUMS. No pickle.

A model that knows what it was trained on also has a fingerprints.safetensors, and one that was evaluated a
metrics.json.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from grooming_flag._version import __version__
from grooming_flag.calibration import Calibration
from grooming_flag.errors import MissingExtraError, ModelError, ModelIntegrityError
from grooming_flag.features import FeatureExtractor
from grooming_flag.fingerprints import HASH_BYTES, Fingerprints
from grooming_flag.model import HEADS, Model
from grooming_flag.policy import OperatingPoint
from grooming_flag.segments import SegmentRule
from grooming_flag.tactics import Tactics
from grooming_flag.text import FOLD_VERSION

FORMAT = 3
"""Version of the folder's format. Raise it when an older library could misread what a newer one writes; keep a reader
for every version that a released model has, and a test that reads one."""

BUNDLED = "en-v1"
FILES = CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
OPTIONAL = FINGERPRINTS, METRICS = "fingerprints.safetensors", "metrics.json"
SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
MEND = "get a fresh copy of the model or train it again"
BUCKETS_OF_TACTICS, WEIGHTS_OF_TACTICS = "tactics.buckets", "tactics.weights"


class _Features(msgspec.Struct):
    n_features: int
    word_ngrams: int
    char_ngrams: tuple[int, int] | None
    seed: int
    keyed: bool


class _Segments(msgspec.Struct):
    max_messages: int
    min_messages: int
    max_gap: float | None


class _Point(msgspec.Struct):
    threshold: float
    measured: dict[str, Any]


class _Tactic(msgspec.Struct):
    name: str
    cut: int


class _Config(msgspec.Struct):
    format: int
    name: str
    library: str
    fold_version: int
    features: _Features
    heads: tuple[str, ...]
    step: float
    intercept: int
    calibration: dict[str, float]
    attribution_scale: float
    segments: _Segments
    min_amount: int
    operating_points: dict[str, _Point]
    lineage: dict[str, Any]
    tactics: tuple[_Tactic, ...] = ()


def bundled_model() -> Path:
    """Return the folder of the model that ships with the package."""
    package = Path(__file__).parent
    installed = package / "models" / BUNDLED
    return installed if installed.is_dir() else package.parent / "models" / BUNDLED


def load_model(
    folder: str | os.PathLike[str] | None = None,
    key: str | None = None,
    public_key: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a model folder after checking its sums and its format.

    Parameters
    ----------
    folder : path, optional
        By default the model that ships with the package.
    key : str, optional
        The secret of a model whose features are keyed.
    public_key : path, optional
        A PEM file with an Ed25519 key. The folder must then have the signature of its sums by this key, SHA256SUMS.sig;
        SECURITY.md says how to make one.

    Raises
    ------
    ModelIntegrityError
        If a file is missing or is not the one that was written, or not what was signed.
    MissingExtraError
        If a signature is to be checked and cryptography is not installed.
    ModelError
        If the format is newer than this library, or the settings cannot be used.
    """
    path = bundled_model() if folder is None else Path(folder)
    contents = _verified(path, public_key)
    try:
        version = msgspec.json.decode(contents[CONFIG], type=dict[str, Any]).get("format")
        if version != FORMAT:
            raise ModelError(
                f"{path}: format {version!r} is not format {FORMAT}, which grooming_flag {__version__} reads; "
                + _mend(version)
            )
        config = msgspec.json.decode(contents[CONFIG], type=_Config)
        tensors = load(contents[WEIGHTS])
        weights = np.stack([tensors[head] for head in config.heads], axis=1)
        tactics = _tactics(config, tensors)
        fingerprints = _unpacked(contents[FINGERPRINTS]) if FINGERPRINTS in contents else None
    except (msgspec.MsgspecError, SafetensorError, KeyError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path}: not a model of format {FORMAT}: {error}; {MEND}") from error
    return _model(config, weights, tactics, fingerprints, key, path)


def load_card(folder: str | os.PathLike[str]) -> tuple[str, dict[str, Any] | None]:
    """Return the card of a model folder and the evaluation that it tells of, if there is one, after checking its sums.

    Raises
    ------
    ModelIntegrityError
        If a file is missing or is not the one that was written.
    ModelError
        If the card is not UTF-8, or the evaluation is no JSON object.
    """
    contents = _verified(Path(folder))
    metrics = contents.get(METRICS, b"null")
    try:
        return contents[CARD].decode(), msgspec.json.decode(metrics, type=dict[str, Any] | None)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{folder}: has no card or evaluation that can be read: {error}; {MEND}") from error


def save_model(
    model: Model, folder: str | os.PathLike[str], card: str = "", metrics: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder; an older one of that name is replaced only when the new one is complete.

    Parameters
    ----------
    model : Model
    folder : path
    card : str
        Markdown for the model card, README.md.
    metrics : mapping, optional
        The evaluation that the card tells of, for metrics.json.
    """
    path = Path(folder)
    check_replaceable(path)
    contents = {
        CONFIG: msgspec.json.format(msgspec.json.encode(_config(model), order="sorted"), indent=2) + b"\n",
        WEIGHTS: save(_tensors(model)),
        CARD: card.encode(),
    }
    if model.fingerprints is not None:
        contents[FINGERPRINTS] = _packed(model.fingerprints)
    if metrics is not None:
        contents[METRICS] = msgspec.json.encode(metrics) + b"\n"
    import shutil  # what only writing needs stays out of the cold start
    import tempfile

    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(contents.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    fresh, old = scratch / "new", scratch / "old"
    try:
        fresh.mkdir()
        for name, data in {**contents, SUMS: sums.encode()}.items():
            (fresh / name).write_bytes(data)
        if path.exists():
            path.rename(old)
        fresh.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(scratch)


def check_replaceable(folder: Path) -> None:
    """Raise a ModelError if a model of that name would replace anything but a model or an empty folder."""
    if folder.exists():
        found = {file.name for file in folder.iterdir()} if folder.is_dir() else {""}
        if found and not (SUMS in found and found <= {*FILES, *OPTIONAL, SUMS, SIGNATURE}):
            raise ModelError(f"{folder} exists and is not a model folder; choose another name")


def _mend(version: object) -> str:
    """Say what to do about a format that this library does not read."""
    if isinstance(version, int) and version < FORMAT:
        return "train the model again, or get a newer copy of it"
    return "upgrade with: pip install -U grooming_flag"


def _verified(path: Path, public_key: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
    """Return the files of a model folder by name, each checked against its sum, and the sums against a signature."""
    if not path.is_dir():
        raise ModelError(f"{path}: there is no such model folder")
    contents: dict[str, bytes] = {}
    sums = _read(path / SUMS)
    if public_key is not None:
        _check_signature(path, sums, Path(public_key))
    for line in sums.decode("ascii", "replace").removesuffix("\n").split("\n"):
        digest, _, name = line.partition("  ")
        if name not in (*FILES, *OPTIONAL):
            raise ModelIntegrityError(f"{path / SUMS}: names a file that is not part of a model; {MEND}")
        contents[name] = _read(path / name)
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise ModelIntegrityError(f"{path / name}: its SHA-256 is not the one in {SUMS}; {MEND}")
    missing = set(FILES) - contents.keys()
    if missing:
        raise ModelIntegrityError(f"{path / SUMS}: has no sum for {', '.join(sorted(missing))}; {MEND}")
    return contents


def _check_signature(path: Path, sums: bytes, public_key: Path) -> None:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError as error:
        raise MissingExtraError("signatures need cryptography; pip install 'grooming-flag[signed]'") from error
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ModelError(f"{public_key}: cannot be read as a public key in PEM ({type(error).__name__})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ModelError(f"{public_key}: not a public key of Ed25519; see SECURITY.md")
    mend = "get the model and the key from who trained it"
    try:
        key.verify(_read(path / SIGNATURE), sums)
    except InvalidSignature as error:
        raise ModelIntegrityError(f"{path}: its sums were not signed by {public_key}; {mend}") from error


def _read(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ModelIntegrityError(f"{path}: the file is missing or is a link; {MEND}")
    return path.read_bytes()


def _tensors(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        head: np.ascontiguousarray(model.weights[:, i]) for i, head in enumerate(HEADS)
    }
    if model.tactics.names:
        tensors |= {BUCKETS_OF_TACTICS: model.tactics.buckets, WEIGHTS_OF_TACTICS: model.tactics.weights}
    return tensors


def digest(model: Model) -> str:
    """Return a SHA-256 of all of a model that its answers depend on."""
    settings = msgspec.json.encode(_config(model), order="deterministic")  # in whatever order they were said
    return hashlib.sha256(settings + save(_tensors(model))).hexdigest()


def _tactics(config: _Config, tensors: dict[str, np.ndarray[Any, Any]]) -> Tactics:
    if not config.tactics:
        return Tactics.none()
    names, cuts = [tactic.name for tactic in config.tactics], [tactic.cut for tactic in config.tactics]
    return Tactics(names, tensors[BUCKETS_OF_TACTICS], tensors[WEIGHTS_OF_TACTICS], np.array(cuts, np.int64))


def _packed(fingerprints: Fingerprints) -> bytes:
    """Return both arrays as the low bytes of each hash, shape (n, HASH_BYTES)."""
    hashes = {"threads": fingerprints.threads, "persons": fingerprints.persons}
    low = {name: found.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :HASH_BYTES] for name, found in hashes.items()}
    return save({name: np.ascontiguousarray(found) for name, found in low.items()})


def _unpacked(data: bytes) -> Fingerprints:
    tensors = load(data)
    hashes = []
    for name in ("threads", "persons"):
        low = tensors[name]
        if low.dtype != np.uint8 or low.ndim != 2 or low.shape[1] != HASH_BYTES:
            raise ValueError(f"fingerprints of {name} are {low.dtype} {low.shape}; need uint8 (n, {HASH_BYTES})")
        hashes.append(np.pad(low, ((0, 0), (0, 8 - HASH_BYTES))).view("<u8").ravel().astype(np.uint64))
    return Fingerprints(*hashes)


def _config(model: Model) -> _Config:
    settings = model.extractor.get_params()
    return _Config(
        format=FORMAT,
        name=model.name,
        library=__version__,
        fold_version=FOLD_VERSION,
        features=_Features(keyed=settings.pop("key") is not None, **settings),
        heads=HEADS,
        step=model.step,
        intercept=round(model.intercept / model.step),
        calibration=asdict(model.calibration),
        attribution_scale=model.attribution_scale,
        segments=_Segments(**asdict(model.segment_rule)),
        min_amount=model.min_amount,
        operating_points={name: _Point(p.threshold, dict(p.measured)) for name, p in model.operating_points.items()},
        lineage=dict(model.lineage),
        tactics=tuple(map(_Tactic, model.tactics.names, model.tactics.cuts.tolist())),
    )


def _model(
    config: _Config,
    weights: np.ndarray[Any, Any],
    tactics: Tactics,
    fingerprints: Fingerprints | None,
    key: str | None,
    path: Path,
) -> Model:
    features = config.features
    if config.fold_version != FOLD_VERSION or config.heads != HEADS:
        raise ModelError(f"{path}: needs folding table {config.fold_version} and heads {config.heads}; train it again")
    if features.keyed != (key is not None):
        wanted = "its features are keyed; pass the key" if features.keyed else "its features have no key; pass none"
        raise ModelError(f"{path}: {wanted}")
    try:
        return Model(
            name=config.name,
            extractor=FeatureExtractor(
                features.n_features, features.word_ngrams, features.char_ngrams, features.seed, key
            ),
            weights=weights,
            step=config.step,
            intercept=config.intercept,
            calibration=Calibration(**config.calibration),
            attribution_scale=config.attribution_scale,
            segment_rule=SegmentRule(**msgspec.structs.asdict(config.segments)),
            min_amount=config.min_amount,
            operating_points={
                name: OperatingPoint(name, point.threshold, point.measured)
                for name, point in config.operating_points.items()
            },
            lineage=config.lineage,
            tactics=tactics,
            fingerprints=fingerprints,
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path / CONFIG}: {error}") from error
