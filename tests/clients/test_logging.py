"""`logging.handlers.QueueHandler` and `QueueListener` over our queue."""

import logging
from logging.handlers import QueueListener

import pytest
import work


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.mark.beyond_stdlib
def test_what_workers_log_arrives_with_their_names(ctx):
    queue, kept = ctx.Queue(), Kept()
    listener = QueueListener(queue, kept)
    listener.start()
    with ctx.Pool(2, work.send_logs_to, (queue,)) as pool:
        assert pool.map(work.log, range(100), chunksize=1) == list(range(100))
        pool.close()
        pool.join()
    listener.stop()
    queue.close()
    messages = [record.getMessage() for record in kept.records]
    assert sorted(messages) == sorted(f"number {n}" for n in range(100))
    assert all("PoolWorker" in record.processName for record in kept.records)
    assert {record.levelname for record in kept.records} == {"WARNING"}
