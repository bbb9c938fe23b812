"""`grooming-flag review`: a page for the moderators of today's queue."""

from __future__ import annotations

from typing import Annotated

import typer

from grooming_flag.artifact import load_model
from grooming_flag.cli.options import AuthorIds, ModelFolder, check_packages, err
from grooming_flag.errors import DataError
from grooming_flag.io.scores import read_flags
from grooming_flag.io.shards import whole_runs
from grooming_flag.io.streams import check_not_input, check_readable, whole_file
from grooming_flag.io.threads import read_threads


def review(
    threads: Annotated[str, typer.Argument(metavar="THREADS", help="Threads, JSON lines (.gz, .zst); - is stdin.")],
    scores: Annotated[
        list[str],
        typer.Argument(
            metavar="SCORES...", help="What grooming-flag score wrote for them: a folder, or all its files."
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Page (.html); it holds text, and only you may read it.")
    ],
    model: ModelFolder = None,
    capacity: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Flagged threads to review, most probable first.")
    ] = None,
    sample_unflagged: Annotated[
        int, typer.Option(min=0, metavar="N", help="Add threads drawn at random from the others; all is then blind.")
    ] = 0,
    authors: AuthorIds = "auto",
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same threads.")] = 0,
) -> None:
    """Write a page in which moderators look at flagged threads and say what they are. It acts on nobody."""
    check_packages("review", "jinja2")
    check_readable(threads)
    files = whole_runs(scores)
    check_not_input([output], [threads, *scores, *files, model])
    from grooming_flag.evaluation.report.reading import plural
    from grooming_flag.review import build_queue, render_page

    loaded = load_model(model)
    bad: list[DataError] = []
    with err.status("reading"):
        try:
            queue = build_queue(
                (row for file in files for _, row in read_flags(file)),
                read_threads(threads, on_bad=bad.append),
                loaded,
                capacity=capacity,
                n_sampled=sample_unflagged,
                seed=seed,
                authors=authors,
            )
        finally:
            if bad:
                err.print(f"lines left out: {len(bad):,}, the first: {bad[0]}", markup=False)
        page = render_page(queue, loaded)
    with whole_file(output, private=True) as file:
        file.write(page.encode())
    n_sampled = sum(one.selection == "sample" for one in queue.reviews)
    n_flagged = len(queue.reviews) - n_sampled
    expected = f", of which {queue.expected_in_words} will be confirmed" if n_flagged else ""
    others = f"\n{n_sampled:,} of {plural(queue.n_unflagged, 'other thread')}" if n_sampled else ""
    per = "thread" if queue.authors == "thread" else "suspect"
    err.print(
        f"{n_flagged:,} of {plural(queue.n_flagged, 'flagged thread')}{expected}{others}\n"
        f"{plural(len(queue.cases), 'case')}, one per {per}, in {output}: keep it as confidential as the chats",
        markup=False,
    )
