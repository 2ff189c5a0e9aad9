"""Build Horovod 0.28.1 against the installed torch, once, and keep the wheel in a cache.

Horovod's last release does not compile against a current torch (it pins C++14, torch wants C++17), and the
Gloo it bundles stalls for 140-700 ms on messages of about 1 MB. So its sdist is fetched through pip, checked
against a known SHA-256, patched by exact replacement (PATCHES below), and built for PyTorch over Gloo,
without MPI.

The wheel lands in `$NIGHTJAR_WHEEL_CACHE` (default: `$XDG_CACHE_HOME/nightjar/wheels`, or
`~/.cache/nightjar/wheels`), in a folder named after everything that shapes the binary: see `wheel_key`.

CUDA: gpu="nccl" builds Horovod's GPU operations on NCCL, with the compiler, headers and libraries that
requirements.cuda.lock has put into the environment: no CUDA toolkit of the machine is needed. HOROVOD_CUDA_HOME
and HOROVOD_NCCL_HOME name others. The wheel links against the libraries that torch itself loads.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HOROVOD_VERSION = "0.28.1"
# Pins of the locks that come without a hash there: built from a source whose hash is here.
BUILT = frozenset({"horovod"})
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"

# Handed through to a gpu="nccl" build: where the toolkit and NCCL are, if not in the environment's packages, and for
# which compute capabilities to compile.
GPU_VARIABLES = ("HOROVOD_CUDA_HOME", "HOROVOD_NCCL_HOME", "HOROVOD_BUILD_CUDA_CC_LIST")
# Turing, Ampere, Hopper; what is newer compiles Hopper's PTX when it loads it.
COMPUTE_CAPABILITIES = "75,80,90"


class SetupError(Exception):
    """Set-up cannot go on; the message says what is wrong and what to do."""


class Patch(NamedTuple):
    """Replace `old`, which occurs exactly once in `file`, by `new`."""

    file: str
    old: str
    new: str


PATCHES = (
    # torch's headers need C++17. The build type is RelWithDebInfo; without -g the wheel takes minutes less to
    # compile and is 1 MB instead of 18.
    Patch(
        "CMakeLists.txt",
        "set(CMAKE_CXX_STANDARD 14)\n",
        'set(CMAKE_CXX_STANDARD 17)\nset(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG")\n',
    ),
    Patch(
        "horovod/torch/CMakeLists.txt",
        "    set(CMAKE_CXX_STANDARD 14)\n",
        "    set(CMAKE_CXX_STANDARD 17)\n",
    ),
    # Gloo sets SO_SNDBUF to the size of what it is about to send, which switches off the kernel's autotuning
    # of that socket for good. On loopback a message of about 1 MB then stalls for 140-700 ms; left alone it
    # takes 2 ms. Sync mode, in which a write must complete at once, keeps the sizing.
    Patch(
        "third_party/gloo/gloo/transport/tcp/pair.cc",
        "  if (sendBufferSize_ < size) {\n",
        "  if (sync_ && sendBufferSize_ < size) {\n",
    ),
    # While one thread writes to a socket, which holds the connection's lock for as long as the kernel copies, Gloo's
    # event thread is told again and again that the socket has something to read, cannot take the lock, and spins: a
    # fifth of two workers' processor time, on the core that the writer may need. Here it sleeps for a moment.
    Patch(
        "third_party/gloo/gloo/transport/tcp/pair.cc",
        "  std::unique_lock<std::mutex> lock(m_, std::try_to_lock);\n  if (!lock) {\n    return;\n",
        "  std::unique_lock<std::mutex> lock(m_, std::try_to_lock);\n  if (!lock) {\n    usleep(20);\n    return;\n",
    ),
    # Horovod's background threads meet every HOROVOD_CYCLE_TIME, whether there is anything to do or not: at 1 ms that
    # takes a third of a core, and a message still waits half a cycle. Here a thread sleeps while nothing is
    # outstanding, at most for a cycle, and the first operation that begins wakes it; while one is outstanding it
    # waits for the others, asleep in Gloo.
    Patch(
        "horovod/common/tensor_queue.h",
        "#include <iostream>\n#include <mutex>\n",
        "#include <condition_variable>\n#include <iostream>\n#include <mutex>\n",
    ),
    Patch(
        "horovod/common/tensor_queue.h",
        "  void RemoveJoinTensor();\n",
        "  void RemoveJoinTensor();\n\n"
        "  template <typename Duration> void WaitForTensor(const Duration& limit) {\n"
        "    std::unique_lock<std::mutex> lock(mutex_);\n"
        "    arrived_.wait_for(lock, limit, [this] { return !tensor_table_.empty(); });\n"
        "  }\n",
    ),
    Patch(
        "horovod/common/tensor_queue.h",
        "  mutable std::mutex mutex_;\n",
        "  mutable std::mutex mutex_;\n  std::condition_variable arrived_;\n",
    ),
    Patch(
        "horovod/common/tensor_queue.cc",
        "  message_queue_.push(std::move(message));\n  return Status::OK();\n",
        "  message_queue_.push(std::move(message));\n  arrived_.notify_one();\n  return Status::OK();\n",
    ),
    Patch(
        "horovod/common/tensor_queue.cc",
        "    message_queue_.push(std::move(messages[i]));\n  }\n",
        "    message_queue_.push(std::move(messages[i]));\n  }\n  arrived_.notify_one();\n",
    ),
    Patch(
        "horovod/common/operations.cc",
        "    std::this_thread::sleep_for(sleep_duration);\n",
        "    state.process_set_table.Get(0).tensor_queue.WaitForTensor(sleep_duration);\n",
    ),
    # Waiting for an operation spins, on the core that the message may need. Here it sleeps until it is woken.
    Patch(
        "horovod/torch/handle_manager.h",
        "#include <mutex>\n",
        "#include <condition_variable>\n#include <mutex>\n",
    ),
    Patch(
        "horovod/torch/handle_manager.h",
        "  std::mutex mutex_;\n",
        "  std::mutex mutex_;\n  std::condition_variable done_;\n",
    ),
    Patch(
        "horovod/torch/handle_manager.h",
        "  bool PollHandle(int handle);\n",
        "  bool PollHandle(int handle);\n  void WaitForHandle(int handle);\n",
    ),
    Patch(
        "horovod/torch/handle_manager.cc",
        "  results_[handle] = std::make_shared<Status>(status);\n}\n",
        "  results_[handle] = std::make_shared<Status>(status);\n  done_.notify_all();\n}\n\n"
        "void HandleManager::WaitForHandle(int handle) {\n"
        "  std::unique_lock<std::mutex> lock(mutex_);\n"
        "  done_.wait(lock, [&] { return results_.count(handle) == 0 || results_[handle] != nullptr; });\n"
        "}\n",
    ),
    Patch(
        "horovod/torch/mpi_ops_v2.cc",
        "      std::this_thread::yield();\n",
        "      handle_manager.WaitForHandle(handle);\n",
    ),
    # Read by CUDA builds only: the C++11 pin of the one .cu file breaks with the headers of gcc >= 14.
    Patch(
        "horovod/common/ops/cuda/CMakeLists.txt",
        "set(CMAKE_CUDA_STANDARD 11)\n",
        "set(CMAKE_CUDA_STANDARD 17)\n",
    ),
)

# A build without NCCL against a CUDA build of torch: else it takes any toolkit that the machine has for one that
# it may compile against, and fails where that is not whole.
NO_CUDA = Patch(
    "cmake/Modules/FindPytorch.cmake",
    "print(True if ((torch.version.cuda is not None) and (CUDA_HOME is not None)) else False)",
    "print(False)",
)

# torch has loaded CUDA's and NCCL's libraries before. Without this the wheel would look for them first in the folder of
# links that it was compiled with, which is gone, and which anybody may make again.
NO_RUNPATH = Patch(
    "CMakeLists.txt",
    'set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")\n',
    'set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")\nset(CMAKE_SKIP_RPATH TRUE)\n',
)


def horovod_wheel(python: Path, gpu: str) -> Path:
    """The wheel for the environment of `python`, from the cache or built now.

    `python` needs torch, numpy, cmake, wheel, setuptools and Horovod's own requirements installed. `gpu` is
    "none" or "nccl". Raises SetupError when the sdist is not the expected one, a patch does not apply, or the
    compiler fails.
    """
    switches = build_switches(gpu)
    patches = list(PATCHES)
    if gpu == "nccl":
        patches.append(NO_RUNPATH)
    elif torch_has_cuda(python):
        patches.append(NO_CUDA)
    folder = wheel_cache() / wheel_key(python, switches, patches)
    for cached in folder.glob("horovod-*.whl"):
        print(f"    {cached} (cached)", flush=True)
        return cached
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nightjar-horovod-") as scratch:
        source = unpack(fetch_sdist(python, Path(scratch)), Path(scratch))
        apply_patches(source, patches)
        toolkit = cuda_toolkit(python, Path(scratch), switches) if gpu == "nccl" else {}
        built = compile_wheel(python, source, switches | toolkit, folder / "build.log")
        # Copied beside its final name first: the scratch folder may lie on another file system, which a
        # rename cannot cross, and a half-written wheel must never be taken for a cached one.
        partial = folder / f".{built.name}.{os.getpid()}"
        shutil.copyfile(built, partial)
        os.replace(partial, folder / built.name)
    return folder / built.name


def wheel_cache() -> Path:
    own = os.environ.get("NIGHTJAR_WHEEL_CACHE")
    if own:
        return Path(own).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nightjar" / "wheels"


def torch_has_cuda(python: Path) -> bool:
    probe = "import torch; print(torch.version.cuda is not None)"
    return subprocess.check_output([str(python), "-c", probe], text=True).strip() == "True"


def wheel_key(python: Path, switches: dict[str, str], patches: Sequence[Patch]) -> str:
    """A name for the binary, from all that shapes it; torch counts with its local part (+cpu, +cu130)."""
    probe = "import sysconfig, torch; print(sysconfig.get_config_var('SOABI'), torch.__version__)"
    abi = subprocess.check_output([str(python), "-c", probe], text=True).strip()
    identity = [abi, platform.machine(), platform.libc_ver(), SDIST_SHA256, patches, sorted(switches.items())]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def build_switches(gpu: str) -> dict[str, str]:
    switches = {
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
    }
    if platform.machine() == "x86_64":
        # Named, not left to what this CPU has: a cached wheel may be used on another machine of the cluster.
        switches["HOROVOD_BUILD_ARCH_FLAGS"] = "-mavx -mfma -mf16c"
    if gpu == "nccl":
        # Shared: torch has loaded both libraries before it, and two copies of either would not know each other.
        switches |= {"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_NCCL_LINK": "SHARED"}
        switches["HOROVOD_BUILD_CUDA_CC_LIST"] = COMPUTE_CAPABILITIES
        switches.update({name: os.environ[name] for name in GPU_VARIABLES if os.environ.get(name)})
    return switches


def cuda_toolkit(python: Path, scratch: Path, switches: dict[str, str]) -> dict[str, str]:
    """The variables that lead the build to nvcc and NCCL: those of the environment's packages where none are named.

    The packages hold libraries by the names that programs load; a linker asks for others (libnccl.so for
    libnccl.so.2). So links lie in `scratch`, laid out as an installed toolkit is.
    """
    probe = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([str(python), "-c", probe], text=True).strip()) / "nvidia"
    variables = {}
    for variable, name in (("HOROVOD_CUDA_HOME", "cu13"), ("HOROVOD_NCCL_HOME", "nccl")):
        if variable in switches:
            continue
        package, home = packages / name, scratch / name
        if not (package / "include").is_dir():
            raise SetupError(f"{package} is missing. Install requirements.cuda.lock, or name a folder in {variable}.")
        for folder in ("bin", "lib64"):  # not links themselves: nvcc goes by what lies beside the folder that it is in
            (home / folder).mkdir(parents=True)
        (home / "lib").symlink_to("lib64")
        for entry in package.iterdir():
            if entry.name not in ("bin", "lib"):
                (home / entry.name).symlink_to(entry)
        for program in (package / "bin").glob("*"):
            (home / "bin" / program.name).symlink_to(program)
        for library in (package / "lib").iterdir():
            (home / "lib64" / library.name).symlink_to(library)
            stem, so, version = library.name.partition(".so.")
            if so and version.isdigit():
                (home / "lib64" / f"{stem}.so").symlink_to(library)
        variables[variable] = str(home)
    home = switches.get("HOROVOD_CUDA_HOME") or variables["HOROVOD_CUDA_HOME"]
    # torch's build helper looks for CUDA_HOME; Horovod asks the first nvcc of the PATH what it can compile for.
    return variables | {"CUDA_HOME": home, "PATH": f"{home}/bin:{os.environ['PATH']}"}


def fetch_sdist(python: Path, scratch: Path) -> Path:
    # pip runs the sdist's setup.py to read its metadata; HOROVOD_SKIP_COMPILE keeps that from compiling.
    command = [str(python), "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
    command += ["--no-binary", "horovod", "--dest", str(scratch), f"horovod=={HOROVOD_VERSION}"]
    if subprocess.run(command, env={**os.environ, "HOROVOD_SKIP_COMPILE": "1"}).returncode:
        raise SetupError(
            f"pip could not download the source of horovod {HOROVOD_VERSION} (its messages are above).\n"
            "Check the network and pip's index settings, then run `make setup` again."
        )
    sdist = scratch / f"horovod-{HOROVOD_VERSION}.tar.gz"
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if digest != SDIST_SHA256:
        raise SetupError(
            f"{sdist.name} has SHA-256 {digest}, expected {SDIST_SHA256}.\n"
            "The package index serves another file than the one this project was built with. "
            "Do not install it; check pip's index settings."
        )
    return sdist


def unpack(sdist: Path, scratch: Path) -> Path:
    shutil.unpack_archive(sdist, scratch)
    return scratch / f"horovod-{HOROVOD_VERSION}"


def apply_patches(source: Path, patches: Sequence[Patch]) -> None:
    for patch in patches:
        path = source / patch.file
        text = path.read_text()
        found = text.count(patch.old)
        if found != 1:
            raise SetupError(
                f"horovod {HOROVOD_VERSION}: {patch.file} has {found} places that read {patch.old!r}, "
                "expected 1.\nCorrect PATCHES in .ci/horovod_wheel.py."
            )
        path.write_text(text.replace(patch.old, patch.new))


def compile_wheel(python: Path, source: Path, switches: dict[str, str], log: Path) -> Path:
    jobs = compile_jobs()
    print(f"    compiling with {jobs} jobs (minutes); log: {log}", flush=True)
    # Horovod takes its switches from the environment: none may reach it that wheel_key does not know.
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    env.update(switches, HOROVOD_CMAKE=str(python.with_name("cmake")), MAKEFLAGS=f"-j{jobs}")
    wheels = source.parent / "wheels"
    command = [str(python), "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-build-isolation"]
    command += ["--no-cache-dir", "--wheel-dir", str(wheels), str(source)]
    with log.open("w") as sink:
        failed = subprocess.run(command, env=env, stdout=sink, stderr=subprocess.STDOUT).returncode
    if failed:
        errors = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
        shown = "\n".join(f"    {line.strip()}" for line in errors[:15])
        raise SetupError(f"horovod {HOROVOD_VERSION} did not compile. The first errors of {log}:\n{shown}")
    (built,) = wheels.glob("horovod-*.whl")
    return built


def compile_jobs() -> int:
    """One job a core, but no more than memory allows: a file that includes torch takes up to 1.5 GiB."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)), memory // (2 * 1024**3)))
