"""Logs that outgrow one machine: the same scores on Apache Spark, of tables and of streams.

Spark's own shuffle brings the rows of a thread together and its sort, which spills to disk, brings them in order. From
there Arrow batches go into the same kernel as on one machine, and a thread longer than a batch goes on in the next one,
so that a partition takes the same memory whatever is in it. Of a stream, the state of each thread is Spark's to keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import chain, groupby, islice
from os import PathLike
from pathlib import Path
from shutil import make_archive
from tempfile import TemporaryDirectory
from typing import Any

from grooming_flag.artifact import digest, load_model, save_model
from grooming_flag.decisions import Decider
from grooming_flag.errors import DataError, MissingExtraError, ModelIntegrityError
from grooming_flag.io.flat import columns_of_rows
from grooming_flag.io.logs import COLUMNS, REQUIRED
from grooming_flag.io.scores import score_batch, score_schema
from grooming_flag.io.states import IDLE
from grooming_flag.model import Model
from grooming_flag.policy import DEFAULT, Policy, Rule, resolve
from grooming_flag.records import CONTEXT, Message, Thread

try:
    from pyspark import SparkFiles
    from pyspark.errors import AnalysisException
    from pyspark.sql import Column, DataFrame, Row, SparkSession
    from pyspark.sql import functions as F
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor
    from pyspark.sql.types import NumericType, TimestampType
except ModuleNotFoundError as error:
    raise MissingExtraError("Spark needs pyspark; pip install 'grooming-flag[spark]'") from error

PLACE = "place"
ROWS = 10_000
DDL = {"string": "string", "double": "double", "bool": "boolean", "int64": "bigint"}
SCORES = ", ".join(f"{field.name} {DDL[str(field.type)]}" for field in score_schema())
CHANGES = f"{SCORES}, rule string, shadow boolean, is_up boolean"
SETTINGS = {
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
}
"""What a session must be set to for `watch`. Threads that are idle are forgotten in batches with messages: by itself
Spark would run one empty batch after the other to look for them, and never be done with what there is."""

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
MOMENT = (  # day, hours and minutes, seconds, hours and minutes of the zone
    r"^(\d{4}-\d{1,2}-\d{1,2})(?:[T ](\d{1,2}:\d{2})(:\d{2}(?:\.\d+)?)?)? ?(?:[Zz]|UTC|([+-]\d{1,2})(?::?(\d{2}))?)?$"
)
MOST_SHOWN = 100  # characters of a thread's id in an error


def assess(
    df: DataFrame,
    model: Model | str | PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    at: str | float = "balanced",
) -> DataFrame:
    """Assess the threads of a table of messages: one row a thread, with the columns of a score file.

    Messages of a thread are ordered by time, then by `place` if there is such a column, then by file and row of
    Parquet, or else as Spark reads them. Where this tells the order, the answers are to the bit those of
    `grooming_flag.batch.score_files`, whatever the number of partitions; their order is Spark's.

    Parameters
    ----------
    df : DataFrame
        One message a row.
    model : Model or path, optional
        By default the model that ships with the package.
    columns : mapping of str to str, optional
        Names that the table uses for `thread_id`, `author`, `sent_at`, `text` and `place`.
    at : str or float
        Operating point or threshold.

    Returns
    -------
    DataFrame
        Nothing is read before its rows are asked for. A row that is no message then stops the job; see `problem`.

    Raises
    ------
    DataError
        If a column is missing, or the table is a stream.
    PolicyError
        If there is no such operating point, or the threshold is outside 0..1.

    Examples
    --------
    >>> from pyspark.sql import SparkSession
    >>> from grooming_flag.spark import assess
    >>> threads = SparkSession.active().read.json("examples/threads.jsonl")
    >>> messages = threads.selectExpr("thread_id", "inline(messages)")
    >>> sorted(row.thread_id for row in assess(messages, at="sensitive").where("flagged").collect())
    ['block-server-friend', 'bus-stop-chat', 'skatepark-videos']
    """
    if df.isStreaming:
        raise DataError("this table is a stream; use watch")
    model = _loaded(model)
    resolve(at, model.operating_points)
    order = ("thread_id", F.col("sent_at").asc_nulls_last(), F.col(PLACE).asc_nulls_last())
    rows = _messages(df, columns).repartition("thread_id").sortWithinPartitions(*order)
    with_times = model.segment_rule.max_gap is not None
    rows = rows.select("thread_id", "author", "text", *(["sent_at"] if with_times else []))
    return rows.mapInArrow(partial(_assessed, _sent(df.sparkSession, model), at), SCORES)


def watch(
    stream: DataFrame,
    model: Model | str | PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    at: str | float | Policy = "balanced",
    shadow_models: Mapping[str, Model] | None = None,
    idle: float = IDLE,
) -> DataFrame:
    """Watch the threads of a stream of messages: one row whenever a flag goes up or comes down.

    Messages count in the order in which the stream has them; those that come in one micro-batch in order of time, then
    of their place, see `assess`. States are kept in the checkpoint of the query and hold no text. After a restart from
    it no message is lost and none counts twice; that no row is written twice is up to the sink.

    Parameters
    ----------
    stream : DataFrame
        A streaming one, one message a row. Columns `surface`, `locale` and `age_band` are what rules of a policy may
        ask for.
    model : Model or path, optional
        By default the model that ships with the package.
    columns : mapping of str to str, optional
        As in `assess`; also names for `surface`, `locale` and `age_band`.
    at : str, float or Policy
        Operating point, threshold, or what `grooming_flag.policy.read_policy` returns.
    shadow_models : mapping of str to Model, optional
        The models that shadows of the policy name.
    idle : float
        Seconds without a message after which a thread is forgotten.

    Returns
    -------
    DataFrame
        A streaming one: the columns of a score file, and `rule`, `shadow` and `is_up` as in
        `grooming_flag.decisions.Change`.

    Raises
    ------
    DataError
        If a column is missing, `idle` is no time, the table is no stream, or the session is one of Spark Connect or has
        other than `SETTINGS`.
    PolicyError
        If there is no such operating point, or the threshold is outside 0..1.
    """
    if not stream.isStreaming:
        raise DataError("this table is no stream; read it with spark.readStream, or use assess")
    if not 0.0 < idle < math.inf:
        raise DataError(f"idle is {idle!r} seconds; use more than 0")
    session = stream.sparkSession
    if not hasattr(session, "sparkContext"):
        raise DataError("Spark Connect brings no model to the workers of a stream; run watch in a session without it")
    for name, value in SETTINGS.items():
        if session.conf.get(name, None) != value:
            raise DataError(f"to watch, set {name} to {value}; see grooming_flag.spark.SETTINGS")
    model = _loaded(model)
    policy = at if isinstance(at, Policy) else Policy((Rule(DEFAULT, at),))
    Decider(model, policy, shadow_models)  # whatever is wrong with them is said here
    shadows = {name: _sent(session, shadow) for name, shadow in (shadow_models or {}).items()}
    processor = _Processor(_sent(session, model), policy, shadows, idle)
    threads = _messages(stream, columns, CONTEXT).groupBy("thread_id")
    return threads.transformWithState(processor, CHANGES, "append", "processingTime")


def problem(df: DataFrame, columns: Mapping[str, str] | None = None) -> Column:
    """Return a column that says what is wrong with a row, and is null if it is a message.

    `assess` and `watch` stop at the first row that is none. Give them ``df.where(problem(df).isNull())`` and the others
    to whoever counts and mends them.

    Parameters
    ----------
    df : DataFrame
    columns : mapping of str to str, optional
        As in `assess`.

    Raises
    ------
    DataError
        If a column is missing.
    """
    return _problem(df, _named(df, columns, ()))


def _problem(df: DataFrame, names: Mapping[str, str]) -> Column:
    found = F.lit(None).cast("string")
    if "sent_at" in names:
        at = F.col(names["sent_at"])
        found = F.when(at.isNotNull() & _seconds(df, at).isNull(), "sent_at is not a time; use seconds or ISO 8601")
    for column in reversed(REQUIRED):
        value = F.col(names[column]).cast("string")
        found = (
            F.when(value.isNull(), f"{column} is missing")
            .when(~F.is_valid_utf8(value), f"{column} is not UTF-8")
            .otherwise(found)
        )
    return found.alias("problem")


def _messages(df: DataFrame, columns: Mapping[str, str] | None, more: Sequence[str] = ()) -> DataFrame:
    """Return the rows with the columns `thread_id`, `author`, `sent_at`, `text`, `place` and those of `more` it has."""
    names = _named(df, columns, more)
    mend = "; set such rows aside, which grooming_flag.spark.problem tells"
    shown = F.coalesce(F.left(F.make_valid_utf8("thread_id"), F.lit(MOST_SHOWN)), F.lit("?"))
    error = F.raise_error(F.concat(F.lit("a row of thread "), shown, F.lit(": "), "problem", F.lit(mend)))
    sent_at = _seconds(df, F.col(names["sent_at"])) if "sent_at" in names else F.lit(None).cast("double")
    rows = df.select(
        *(F.col(names[column]).cast("string").alias(column) for column in (*REQUIRED, *more) if column in names),
        sent_at.alias("sent_at"),
        _place(df, names).alias(PLACE),
        _problem(df, names),
    )
    return rows.withColumn("author", F.when(F.isnull("problem"), F.col("author")).otherwise(error)).drop("problem")


def _named(df: DataFrame, columns: Mapping[str, str] | None, more: Sequence[str]) -> dict[str, str]:
    """Return how to call each column of messages that the table has."""
    known = (*COLUMNS, PLACE, *more)
    columns = columns or {}
    if unknown := set(columns) - set(known):
        raise DataError(f"messages have no column {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    taken = set(columns.values())  # a column that is mapped is not another one too
    names = {column: columns.get(column, column) for column in known if column in columns or column not in taken}
    missing = [
        name for column, name in names.items() if name not in df.columns and (column in REQUIRED or column in columns)
    ]
    if missing:
        mend = 'map the names with columns={"thread_id": NAME, ...}'
        raise DataError(f"the table has no column {', '.join(missing)}; {mend}")
    return {column: "`" + name.replace("`", "``") + "`" for column, name in names.items() if name in df.columns}


def _seconds(df: DataFrame, at: Column) -> Column:
    """Return a time as finite seconds, null if it is none. What says no zone is in UTC, whatever the session's is."""
    (kind,) = df.select(at).schema
    if isinstance(kind.dataType, TimestampType):
        return at.cast("double")
    found = at.cast("double") if isinstance(kind.dataType, NumericType) else _seconds_of_text(at.try_cast("string"))
    return F.when(~F.isnan(found) & (F.abs(found) != float("inf")), found)


def _seconds_of_text(text: Column) -> Column:
    day, minute, second, hours, minutes = (F.regexp_extract(text, MOMENT, group) for group in range(1, 6))

    def given(part: Column, otherwise: str) -> Column:
        return F.when(part == "", otherwise).otherwise(part)

    zone = F.when(hours == "", "Z").otherwise(F.concat(hours, F.lit(":"), given(minutes, "00")))
    moment = F.concat(day, F.lit("T"), given(minute, "00:00"), given(second, ":00"), zone)
    number = F.when(text.rlike(NUMBER), text.try_cast("double"))
    return F.coalesce(number, F.when(day != "", moment.try_cast("timestamp").cast("double")))


def _place(df: DataFrame, names: Mapping[str, str]) -> Column:
    """Return what stands for the order of rows sent at the same time: their place, then where they are in files."""
    given = [F.col(names[PLACE])] if PLACE in names else []
    as_read = [] if df.isStreaming else [F.monotonically_increasing_id()]
    for within, rest in (("row_index", []), ("file_block_start", as_read)):
        try:
            metadata = df.metadataColumn("_metadata")
            place = F.struct(*given, metadata["file_path"], metadata[within], *rest)
            _ = df.select(place).schema
        except AnalysisException:  # these are not rows of such files
            continue
        return place
    return F.struct(*given, *as_read, F.lit(0))


@dataclass(frozen=True)
class _Sent:
    """A model as executors have it: the archive that Spark unpacked there, and the sum that the model must have."""

    archive: str
    sum: str
    key: str | None = field(repr=False)


@lru_cache(maxsize=8)
def _opened(sent: _Sent) -> Model:
    """Return a model on an executor, once for all tasks of a worker process."""
    model = load_model(Path(SparkFiles.getRootDirectory(), sent.archive), sent.key)
    if digest(model) != sent.sum:
        mend = "is the same version of grooming_flag installed everywhere?"
        raise ModelIntegrityError(f"the model that came to this executor is not the one that was sent; {mend}")
    return model


_archives: dict[tuple[str, str, str | None], tuple[_Sent, TemporaryDirectory[str]]] = {}
"""Those that were sent, by application and by sum and key of the model; the folders stay until this process ends."""


def _sent(session: SparkSession, model: Model) -> _Sent:
    """Let Spark bring a model to all executors, those that come later too, once each for an application."""
    context = getattr(session, "sparkContext", None)  # Spark Connect has none
    sum_, key = digest(model), model.extractor.key
    whose = (context.applicationId if context else str(getattr(session, "session_id", "")), sum_, key)
    if whose not in _archives:
        folder = TemporaryDirectory(prefix="grooming_flag-")
        path = Path(folder.name)
        save_model(model.replace(fingerprints=None), path / "model")
        archive = make_archive(f"{path / path.name}", "zip", path / "model")
        session.addArtifacts(archive, archive=True)
        _archives[whose] = _Sent(Path(archive).name, sum_, key), folder
    return _archives[whose][0]


def _loaded(model: Model | str | PathLike[str] | None) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def _assessed(sent: _Sent, at: str | float, batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows of assessments for sorted rows of messages; both are Arrow batches."""
    model = _opened(sent)
    if model.segment_rule.max_gap is None:
        answers = model.assess_columns(columns_of_rows(batches), at)
    else:
        answers = model.assess_many(_threads(batches), at)
    while some := list(islice(answers, ROWS)):
        yield score_batch(some)


def _threads(batches: Iterable[Any]) -> Iterator[Thread]:
    """Yield the threads of sorted rows with times."""
    rows = chain.from_iterable(zip(*(column.to_pylist() for column in batch.columns), strict=True) for batch in batches)
    for thread_id, group in groupby(rows, key=lambda row: row[0]):
        yield Thread(thread_id, [Message(author, text, sent_at) for _, author, text, sent_at in group])


class _Processor(StatefulProcessor):
    """Decides about the messages of each thread of a micro-batch; Spark keeps the states."""

    def __init__(self, model: _Sent, policy: Policy, shadows: Mapping[str, _Sent], idle: float) -> None:
        self._model = model
        self._policy = policy
        self._shadows = shadows
        self._idle = idle

    def init(self, handle: Any) -> None:
        self._state = handle.getValueState("thread", "state binary", int(self._idle * 1000))

    @cached_property
    def _decider(self) -> Decider:  # not made by the driver, which calls init as well
        models = {name: _opened(sent) for name, sent in self._shadows.items()}
        return Decider(_opened(self._model), self._policy, models)

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:  # noqa: N802
        (thread_id,) = key
        kept = self._state.get()
        thread = self._decider.thaw(thread_id, bytes(kept[0]) if kept else None)
        if self._decider.n_damaged:
            raise DataError(f"the state of thread {thread_id[:MOST_SHOWN]} is damaged; begin with a new checkpoint")
        now = timerValues.getCurrentProcessingTimeInMs() / 1000
        for row in sorted(rows, key=_moment):
            context = {name: row[name] for name in CONTEXT if name in row and row[name] is not None}
            for change in self._decider.add(thread, Message(row.author, row.text, row.sent_at), now, context):
                yield Row(**change.row())
        self._state.update((thread.frozen(),))


def _moment(row: Row) -> tuple[Any, Any]:
    return _in_order(row.sent_at), _in_order(row.place)


def _in_order(value: Any) -> tuple[bool, Any]:
    """Return what sorts as Spark does with nulls last; structs come as dictionaries."""
    return value is None, tuple(map(_in_order, value.values())) if isinstance(value, dict) else value
