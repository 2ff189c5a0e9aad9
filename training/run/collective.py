"""How the workers of one run are started and talk to each other. The one file that knows horovod: it imports it, only
when it is used, and names its modules, its command and its variables.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import unwrap
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from nightjar.features.contract import liveness
from nightjar.training.run.listeners import SentAway, hospitable, own_address
from nightjar.training.run.rounds import begin_swap
from nightjar.training.step.messages import join

Parts = list[Tensor]
"""The rows that came from each worker, by rank."""
Received = tuple[Tensor, list[int]]
"""The same one below the other, and how many came from each worker."""
T_co = TypeVar("T_co", covariant=True)
# That a worker sends in one operation, whose lengths Horovod counts in 32 bits.
_ROUND_BYTES = 1 << 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending(Generic[T_co]):
    """An operation that has begun; `wait` once for its result."""

    wait: Callable[[], T_co]


class LostPeer(Exception):
    """Another worker of the run has ended, so that a common operation cannot. That worker knows why."""


class Collective(Protocol):
    """The operations that every worker calls in the same order."""

    rank: int
    size: int

    def begin_all_to_all(self, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> Pending[list[Parts]]:
        """Of each tensor, send the next splits[r] rows to each worker r. All tensors travel at once; they must not
        change until they have arrived. What a worker sends to itself is not copied.
        """

    def all_to_all(self, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> list[Received]:
        """begin_all_to_all, wait, and join what came."""

    def begin_all_reduce_sum_(self, tensor: Tensor) -> Pending[Tensor]:
        """Begin to replace `tensor` by its sum over the workers."""

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        """begin_all_reduce_sum_, and wait."""

    def barrier(self) -> None:
        """Wait until every worker is here."""


class AtOnce:
    """Operations that begin and wait in one call, for a Collective that can begin them."""

    def all_to_all(self: Collective, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> list[Received]:
        """See Collective."""
        return list(map(join, self.begin_all_to_all(tensors, splits).wait()))

    def all_reduce_sum_(self: Collective, tensor: Tensor) -> Tensor:
        """See Collective."""
        return self.begin_all_reduce_sum_(tensor).wait()


class Solo(AtOnce):
    """One worker: nothing to say to anyone."""

    rank = 0
    size = 1

    def begin_all_to_all(self, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> Pending[list[Parts]]:
        """See Collective."""
        return Pending(lambda: [[tensor] for tensor in tensors])

    def begin_all_reduce_sum_(self, tensor: Tensor) -> Pending[Tensor]:
        """See Collective."""
        return Pending(lambda: tensor)

    def barrier(self) -> None:
        """See Collective."""


class HorovodCollective(AtOnce):
    """Collective over Horovod, in a process that Horovod's launcher started.

    Leaving without `close` is for those that fail: the others' next operation then ends in LostPeer.
    """

    def __init__(self) -> None:
        with liveness.opaque_work():
            import horovod.torch as hvd

        with liveness.waiting():
            hvd.init()
        self._hvd = hvd
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()
        self.round_bytes = _ROUND_BYTES // self.size

    def begin_all_to_all(self, tensors: Sequence[Tensor], splits: Sequence[Sequence[int]]) -> Pending[list[Parts]]:
        """See Collective. In one operation of Horovod's, however many tensors there are, unless they are large."""
        if not tensors:
            return Pending(lambda: [])
        parts = [tensor.split(list(rows)) for tensor, rows in zip(tensors, splits, strict=True)]
        mine = [of_ranks[self.rank] for of_ranks in parts]  # they stay here

        def begin(sent: Tensor, lengths: list[int]) -> Callable[[], Sequence[Tensor]]:
            with self._lost_peer():
                handle = self._hvd.alltoall_async(self._sendable(sent), splits=torch.tensor(lengths, dtype=torch.int32))

            def wait() -> Sequence[Tensor]:
                received, sizes = self._finish(handle)
                came: Sequence[Tensor] = received.to(sent.device).split(sizes.tolist())
                return came

            return wait

        others = [None if rank == self.rank else [p[rank] for p in parts] for rank in range(self.size)]
        swapped = begin_swap(others, tensors, begin, self.round_bytes)
        return Pending(lambda: list(map(list, zip(*(rows or mine for rows in swapped()), strict=True))))

    def begin_all_reduce_sum_(self, tensor: Tensor) -> Pending[Tensor]:
        """See Collective."""
        sent = self._sendable(tensor)
        with self._lost_peer():
            handle = self._hvd.allreduce_async_(sent, op=self._hvd.Sum)

        def wait() -> Tensor:
            total: Tensor = self._finish(handle)
            return tensor if sent is tensor else tensor.copy_(total)

        return Pending(wait)

    def _sendable(self, tensor: Tensor) -> Tensor:
        """Without NCCL, what a GPU holds travels through the host's memory."""
        return tensor if self._hvd.nccl_built() else tensor.cpu()

    def barrier(self) -> None:
        """See Collective."""
        with self._lost_peer(), liveness.waiting():
            self._hvd.barrier()

    def close(self) -> None:
        """Leave the run in order, which waits for the others to do so."""
        self._hvd.shutdown()

    def _finish(self, handle: int) -> Any:
        """The result of an operation."""
        with self._lost_peer(), liveness.waiting():
            return self._hvd.synchronize(handle)

    @contextmanager
    def _lost_peer(self) -> Iterator[None]:
        from horovod.common.exceptions import HorovodInternalError

        try:
            yield
        except HorovodInternalError as error:
            raise LostPeer(str(error)) from error


def local_command(workers: int, program: Sequence[str]) -> list[str]:
    """The command line of horovodrun that starts `workers` processes `python program...` on this machine."""
    launch = [sys.executable, "-m", "nightjar.training.run.horovodrun", "-np", str(workers), "--gloo"]
    return [*launch, "--network-interfaces", "lo", sys.executable, *program]


def rank_of_process() -> int:
    """The rank that Horovod's launcher gave this process; known before the workers have met."""
    return int(os.environ["HOROVOD_RANK"])


def workers_launched() -> int:
    """How many workers Horovod's launcher has started with this one."""
    return int(os.environ["HOROVOD_SIZE"])


def environment(stall_seconds: int) -> Mapping[str, str]:
    """Horovod's settings for a worker: an end to waiting for a silent one.

    Horovod's background threads meet as soon as an operation begins (.ci/horovod_wheel.py) and once a cycle while
    nothing happens, which is for lost peers and the end of the run: it need not be often. Its cache of responses is
    off: keeping it coordinated cost two rounds of messages at every meeting, which doubled the time of an operation.

    Horovod's own stall check is left alone, since over Gloo it sees nobody: it goes through the ranks of a list that
    the MPI controller fills and the Gloo controller only reserves (gloo_controller.cc: global_ranks_.reserve), so that
    it neither warns nor ends a run. The launcher looks for workers that get nothing done (training.run.launch).
    """
    return {
        "HOROVOD_CACHE_CAPACITY": "0",
        "HOROVOD_CYCLE_TIME": "10",
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(stall_seconds),
    }


def run_on_loopback() -> None:
    """Be horovodrun for workers on this machine: nobody else reaches its rendezvous, which asks nobody who he is."""
    from horovod.runner import launch

    _listen_at("127.0.0.1")
    launch.run_commandline()


def _listen_at(host: str) -> None:
    """Let Horovod's servers of this process listen at this address alone, say so to those who ask for them, and send
    strangers away (training.run.listeners).
    """
    from horovod.runner.common.util import network
    from horovod.runner.http import http_server

    # Workers of Spark's Python are used again: what they were given before is not wrapped once more.
    originals = (network.BasicService._get_local_addresses, network.BasicService._make_handler)
    local_addresses, make_handler = map(unwrap, originals)

    def find_port(server_at: Callable[[tuple[str, int]], Any]) -> tuple[Any, int]:
        server = hospitable(server_at((host, 0)))
        return server, server.server_address[1]

    @wraps(local_addresses)
    def listened_at(service: Any) -> dict[str, list[tuple[str, int]]]:
        address, everywhere = service._server.server_address[0], local_addresses(service)
        here = {name: [end for end in ends if end[0] == address] for name, ends in everywhere.items()}
        return {name: ends for name, ends in here.items() if ends} or everywhere

    @wraps(make_handler)
    def bounded(service: Any) -> type:
        return type("Handler", (SentAway, make_handler(service)), {})

    network.find_port = http_server.find_port = find_port
    network.BasicService._get_local_addresses, network.BasicService._make_handler = listened_at, bounded


def spark_task(index: int, driver_addresses: Any, key: bytes, *rest: Any) -> Any:
    """What Horovod runs in a Spark task; its service listens at the address by which this machine reaches the
    driver.
    """
    from horovod.spark import runner
    from horovod.spark.driver.driver_service import SparkDriverClient

    reached = SparkDriverClient(driver_addresses, key, verbose=0).addresses()
    _listen_at(own_address([end for ends in reached.values() for end in ends]))
    return runner._task_fn(index, driver_addresses, key, *rest)


def _gloo_run(executable: str, settings: Any, nics: Any, driver: Any, *rest: Any) -> None:
    """Horovod's own, with a rendezvous at the driver's address that serves the machines of the run's tasks alone.

    The tasks have proved to the driver's service that they know the run's secret, and said what addresses they have.
    """
    from horovod.runner import gloo_run as launching
    from horovod.runner.http.http_server import RendezvousHTTPServer
    from horovod.spark import gloo_run

    tasks = [driver.all_task_addresses(index) for index in driver.task_indices()]
    known = {address for interfaces in tasks for ends in interfaces.values() for address, _ in ends}
    RendezvousHTTPServer.verify_request = lambda server, request, client: client[0] in known
    host, _ = SparkTasks.driver_host()

    def launch(command: Any, exec_command: Any, settings: Any, nics: Any, env: Any, server_ip: str) -> None:
        launching.launch_gloo(command, exec_command, settings, nics, env, socket.gethostbyname(host))

    gloo_run.launch_gloo = launch
    gloo_run.gloo_run(executable, settings, nics, driver, *rest)


class SparkTasks:
    """`function` in as many Spark tasks of the active session at once, by horovod.spark, in a thread."""

    def __init__(self, function: Callable[[], Any], workers: int, env: Mapping[str, str], start_seconds: int) -> None:
        import horovod.spark
        from horovod.runner import gloo_run
        from horovod.spark import runner as spark_runner
        from horovod.spark.driver import job_id
        from horovod.spark.runner import pyspark

        self._context = pyspark.SparkContext._active_spark_context
        self.error: Exception | None = None
        # It would take over the driver's signals, which only the main thread may; nothing else sets this event.
        gloo_run.register_shutdown_event = threading.Event
        _listen_at(self.driver_host()[1])
        spark_runner._task_fn = spark_task
        spark_runner.gloo_run = _gloo_run
        # Horovod numbers its jobs and has no other way to say which is which.
        self._group = f"horovod.spark.run.{job_id.next_job_id() + 1}"

        def work() -> None:
            try:
                horovod.spark.run(
                    function, num_proc=workers, use_gloo=True, verbose=0, env=dict(env), start_timeout=start_seconds
                )
            except Exception as error:
                self.error = error

        self._thread = threading.Thread(target=work, name="horovod.spark", daemon=True)
        self._thread.start()

    @staticmethod
    def driver_host() -> tuple[str, str]:
        """Under which name tasks reach this process, and the address to listen at for them."""
        from horovod.spark.runner import pyspark

        conf = pyspark.SparkContext._active_spark_context.getConf()
        host = conf.get("spark.driver.host")
        return host, conf.get("spark.driver.bindAddress", host)

    @property
    def ended(self) -> bool:
        """True once no task runs any more."""
        return not self._thread.is_alive()

    @property
    def running(self) -> int:
        """Tasks that Spark has found a slot for; 0 where it does not answer now, since it is asked again soon."""
        status = self._context.statusTracker()
        try:
            jobs = [status.getJobInfo(job) for job in status.getJobIdsForGroup(self._group)]
            stages = [status.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
        except Exception as error:  # a broken line; if the JVM is gone, the tasks end with an error of theirs
            log.info("Spark does not say how many tasks run: %r", error)
            return 0
        return sum(stage.numActiveTasks for stage in stages if stage)

    def cancel(self) -> None:
        """End the tasks and what they started."""
        self._context.cancelJobGroup(self._group)

    def wait(self, seconds: float) -> None:
        """Wait for the end, so long at most."""
        self._thread.join(seconds)
