"""The champion behind HTTP. Needs the extra `serve`; neither PySpark nor torch."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing

import click

from nightjar.features.contract.errors import UsageError
from nightjar.jobs.common.cli import Job

EXAMPLE = """
nightjar serve --models /data/nightjar/models
nightjar serve --models /data/nightjar/models --host 0.0.0.0 --port 8080 --requests /var/log/nightjar --sample 0.05
"""


@click.command("serve_champion", cls=Job, example=EXAMPLE)
@click.option("--models", required=True, metavar="DIR", help="Folder or URL of the published models.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="NAME", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free one.")
@click.option("--every", default=5.0, show_default=True, metavar="SECONDS", help="Between two looks at the pointer.")
@click.option("--workers", default=1, show_default=True, metavar="N", help="Threads that score.")
@click.option("--threads", default=1, show_default=True, metavar="N", help="Threads of one request's dense layers.")
@click.option("--max-rows", default=2000, show_default=True, metavar="N", help="Rows of a request.")
@click.option("--max-kib", default=1024, show_default=True, metavar="N", help="Size of a request's body.")
@click.option("--max-requests", default=256, show_default=True, metavar="N", help="Requests at once; then 503.")
@click.option("--max-seconds", default=2.0, show_default=True, metavar="X", help="Of a request; then 504.")
@click.option("--max-counters-age", type=int, metavar="DAYS", help="Serve with no older counters; else 503.")
@click.option("--requests", metavar="DIR", help="Write a request log there, which `nightjar replay` reads.")
@click.option("--sample", default=1.0, show_default=True, metavar="X", help="The part of the requests in the log.")
@click.option("--sample-by", metavar="COLUMN", help="Names a request in the log.")
@click.option("--max-mib", default=1024.0, show_default=True, metavar="N", help="Of the request log.")
@click.option("--examples/--no-examples", default=True, show_default=True, help="Show golden rows as examples.")
def main(
    models: str,
    host: str,
    port: int,
    every: float,
    workers: int,
    threads: int,
    max_rows: int,
    max_kib: int,
    max_requests: int,
    max_seconds: float,
    max_counters_age: int | None,
    requests: str | None,
    sample: float,
    sample_by: str | None,
    max_mib: float,
    examples: bool,
) -> int:
    """Rank, score and explain rows over HTTP by the champion, whichever it is by then.

    It listens on this machine alone unless --host says otherwise: it knows no users and no passwords. SIGTERM ends it
    once what is in flight is answered.
    """
    try:
        from nightjar.serving.server.app import LOOPBACK, Server
        from nightjar.serving.server.run import listen, run
    except ModuleNotFoundError as error:
        raise UsageError(f"nightjar serve needs {error.name}: pip install 'nightjar[serve]'.") from error
    from nightjar.features.contract import storage
    from nightjar.serving.request_log import RequestLog
    from nightjar.serving.server.settings import Settings

    settings = Settings(
        body_bytes=max_kib * 1024,
        rows=max_rows,
        requests=max_requests,
        seconds=max_seconds,
        workers=workers,
        threads=threads,
        every_seconds=every,
        counters_days=max_counters_age,
        examples=examples,
    )
    with ExitStack() as held:
        log = RequestLog(requests, sample=sample, sample_by=sample_by, max_mib=max_mib) if requests else None
        if log:
            held.enter_context(log)
        listening = held.enter_context(listen(host, port))
        local = listening.getsockname()[0] in ("127.0.0.1", "::1")
        server = held.enter_context(closing(Server(storage.absolute(models), settings, log, LOOPBACK if local else ())))
        where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        print(f"{server.follower.served.pointer.version} is served at {where}", flush=True)
        run(server.app, listening, max_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
