"""Logs that outgrow one machine: the same scores on Apache Spark, of tables and of streams.

Spark's own shuffle brings the rows of a thread together and its sort, which spills to disk, brings them in order. From
there Arrow batches go into the same kernel as on one machine, and a thread longer than a batch goes on in the next one,
so that a partition takes the same memory whatever is in it. Of a stream, the state of each thread is Spark's to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, islice
from os import PathLike
from typing import Any, NamedTuple

from grooming_flag.artifact import digest, load_model
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
    from pyspark.errors import AnalysisException
    from pyspark.sql import Column, DataFrame, Row, SparkSession
    from pyspark.sql import functions as F
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor
    from pyspark.sql.types import DateType, StringType, TimestampNTZType, TimestampType
except ModuleNotFoundError as error:
    raise MissingExtraError("Spark needs pyspark; pip install 'grooming-flag[spark]'") from error

PLACE = "place"
ROWS = 10_000
DDL = {"string": "string", "double": "double", "bool": "boolean", "int64": "bigint"}
SCORES = ", ".join(f"{field.name} {DDL[str(field.type)]}" for field in score_schema())
CHANGES = f"{SCORES}, rule string, shadow boolean, is_up boolean"
STORE = "spark.sql.streaming.stateStore.providerClass"
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
ZONE = r":\d+(\.\d+)? ?(Z|UTC|[+-]\d{1,2}(:?\d{2})?)$"
MOST_SHOWN = 100  # characters of a thread's id in an error


def assess(
    df: DataFrame,
    model: Model | str | PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    at: str | float = "balanced",
) -> DataFrame:
    """Assess the threads of a table of messages: one row a thread, with the columns of a score file.

    Messages of a thread are ordered by time, then by their place in the log: `place` if there is such a column, else
    file and row of Parquet, else the order in which Spark reads them. Then the answers are to the bit those of
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
        If a column is missing.
    PolicyError
        If there is no such operating point, or the threshold is outside 0..1.

    Examples
    --------
    >>> from pyspark.sql import SparkSession  # doctest: +SKIP
    >>> messages = SparkSession.active().read.parquet("logs/2026-11")  # doctest: +SKIP
    >>> assess(messages, columns={"thread_id": "channel"}).where("flagged").count()  # doctest: +SKIP
    12
    """
    model = _loaded(model)
    resolve(at, model.operating_points)
    order = ("thread_id", F.col("sent_at").asc_nulls_last(), PLACE)
    rows = _messages(df, columns).repartition("thread_id").sortWithinPartitions(*order)
    with_times = model.segment_rule.max_gap is not None
    rows = rows.select("thread_id", "author", "text", *(["sent_at"] if with_times else []))
    return rows.mapInArrow(partial(_assessed, _carried(df.sparkSession, [model]), at), SCORES)


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
        If a column is missing, the table is no stream, or the session keeps states in anything but RocksDB.
    PolicyError
        If there is no such operating point, or the threshold is outside 0..1.
    """
    if not stream.isStreaming:
        raise DataError("this table is no stream; read it with spark.readStream, or use assess")
    session = stream.sparkSession
    if session.conf.get(STORE, "") != ROCKSDB:
        raise DataError(f"states of streams need RocksDB; set {STORE} to {ROCKSDB}")
    models = {"": _loaded(model), **(shadow_models or {})}
    policy = at if isinstance(at, Policy) else Policy((Rule(DEFAULT, at),))
    Decider(models[""], policy, shadow_models)  # whatever is wrong with them is said here
    processor = _Processor(_carried(session, list(models.values())), list(models), policy, idle)
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
    return found


def _messages(df: DataFrame, columns: Mapping[str, str] | None, more: Sequence[str] = ()) -> DataFrame:
    """Return the rows with the columns `thread_id`, `author`, `sent_at`, `text`, `place` and those of `more` it has."""
    names = _named(df, columns, more)
    what = _problem(df, names)
    thread_id = F.col(names["thread_id"]).cast("string")
    shown = F.coalesce(F.left(F.make_valid_utf8(thread_id), F.lit(MOST_SHOWN)), F.lit("?"))
    mend = "; set such rows aside, which grooming_flag.spark.problem tells"
    error = F.raise_error(F.concat(F.lit("a row of thread "), shown, F.lit(": "), what, F.lit(mend)))
    sent_at = _seconds(df, F.col(names["sent_at"])) if "sent_at" in names else F.lit(None).cast("double")
    return df.select(
        thread_id.alias("thread_id"),
        F.when(what.isNull(), F.col(names["author"]).cast("string")).otherwise(error).alias("author"),
        sent_at.alias("sent_at"),
        F.col(names["text"]).cast("string").alias("text"),
        _place(df, names).alias(PLACE),
        *(F.col(names[column]).cast("string").alias(column) for column in more if column in names),
    )


def _named(df: DataFrame, columns: Mapping[str, str] | None, more: Sequence[str]) -> dict[str, str]:
    """Return how to call each column of messages that the table has."""
    known = (*COLUMNS, PLACE, *more)
    columns = columns or {}
    if unknown := set(columns) - set(known):
        raise DataError(f"messages have no column {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    names = {column: columns.get(column, column) for column in known}
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
    if isinstance(kind.dataType, (TimestampNTZType, DateType)):
        return _since_1970(at.cast("timestamp_ntz"))
    if isinstance(kind.dataType, TimestampType):
        return at.cast("double")
    found = at.cast("double")
    if isinstance(kind.dataType, StringType):
        moment = F.when(at.rlike(ZONE), at.try_cast("timestamp").cast("double"))
        found = F.coalesce(at.try_cast("double"), moment, _since_1970(at.try_cast("timestamp_ntz")))
    return F.when(~F.isnan(found) & (F.abs(found) != float("inf")), found)


def _since_1970(at: Column) -> Column:
    start = F.lit("1970-01-01 00:00:00").cast("timestamp_ntz")
    return F.timestamp_diff("MICROSECOND", start, at) / 1e6


def _place(df: DataFrame, names: Mapping[str, str]) -> Column:
    """Return what stands for the order of rows sent at the same time."""
    if PLACE in names:
        return F.col(names[PLACE])
    order = [] if df.isStreaming else [F.monotonically_increasing_id()]
    for field, rest in (("row_index", []), ("file_block_start", order)):
        metadata = df.metadataColumn("_metadata")
        place = F.struct(metadata["file_path"], metadata[field], *rest)
        try:
            _ = df.select(place).schema
        except AnalysisException:
            continue
        return place
    return order[0] if order else F.lit(None)


class _Here(NamedTuple):
    """What goes with the function itself, where a session cannot broadcast."""

    value: Sequence[Model]


class _Carried(NamedTuple):
    """Models on their way to the executors, each of which gets them once, and the sums that they must have there."""

    parcel: Any
    sums: Sequence[str]

    def models(self) -> Sequence[Model]:
        """Return the models, on an executor."""
        models: Sequence[Model] = self.parcel.value
        if [digest(model) for model in models] != self.sums:
            mend = "is the same version of grooming_flag installed everywhere?"
            raise ModelIntegrityError(f"the model that came to this executor is not the one that was sent; {mend}")
        return models


def _carried(session: SparkSession, models: Sequence[Model]) -> _Carried:
    context = getattr(session, "sparkContext", None)  # Spark Connect has none
    return _Carried(context.broadcast(models) if context else _Here(models), [digest(model) for model in models])


def _loaded(model: Model | str | PathLike[str] | None) -> Model:
    return model if isinstance(model, Model) else load_model(model)


def _assessed(carried: _Carried, at: str | float, batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows of assessments for sorted rows of messages; both are Arrow batches."""
    (model,) = carried.models()
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

    def __init__(self, carried: _Carried, names: Sequence[str], policy: Policy, idle: float) -> None:
        self._carried = carried
        self._names = names
        self._policy = policy
        self._idle = idle

    def init(self, handle: Any) -> None:
        models = dict(zip(self._names, self._carried.models(), strict=True))
        self._decider = Decider(models.pop(""), self._policy, models)
        self._state = handle.getValueState("thread", "state binary", int(self._idle * 1000))

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


def _moment(row: Row) -> tuple[bool, float, Any]:
    return row.sent_at is None, row.sent_at or 0.0, row.place
