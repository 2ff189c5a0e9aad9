"""Run the tests of the storage contract on a real HDFS, made of packages of the Python index: `make hdfs`.

PySpark 2.4's package (200 MB) is the last whose jars hold Hadoop's servers, 2.7.3; they run on Java 17 once it opens
some packages to them. hdfs-native is a client that fsspec knows, without libhdfs. One name node and one data node
listen on 127.0.0.1 alone, and end with the tests. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SERVERS = "pyspark==2.4.8"
CLIENT = "hdfs-native"
NODES = {
    "namenode.NameNode": "NameNode RPC up at",
    "datanode.DataNode": "successfully registered with NN",
}
"""Classes of the servers, and what each logs once it is ready."""
OPENED = [
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.lang", "java.net", "java.nio", "java.util")),
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("sun.net.dns", "sun.nio.ch")),
    "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
]
TESTS = ("tests/single/features/contract/test_storage.py", "tests/single/jobs/test_lease.py")
TESTS_OF_REGISTRY = tuple(f"tests/single/serving/registry/test_{name}.py" for name in ("registry", "registry_kills"))
SELECTED = "real_hdfs and not pattern"
"""hdfs-native cuts a path at ? and #, of which no name that Nightjar gives has one."""
SECONDS = 120.0
LOG4J = """log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.SimpleLayout
"""


def main() -> int:
    """Fetch what is missing, start, test, stop; the exit status of pytest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/hdfs"), help="for jars and data")
    args = parser.parse_args()
    work = args.work.absolute()
    fetch(work)
    with hdfs(work) as url:
        environment = {**os.environ, "NIGHTJAR_HDFS": f"{url}/tests", "PYTHONPATH": f"{Path.cwd()}:{work / 'client'}"}
        tests = [sys.executable, "-m", "pytest", "-q", *TESTS, *TESTS_OF_REGISTRY, "-k", SELECTED]
        return subprocess.run(tests, env=environment, check=False).returncode


def fetch(work: Path) -> None:
    """The servers' jars, and the client."""
    jars, client = work / "jars", work / "client"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if not jars.exists():
        work.mkdir(parents=True, exist_ok=True)
        unbuilt = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
        subprocess.run([*pip, "download", *unbuilt, "-d", str(work), SERVERS], check=True)
        [archive] = work.glob("pyspark-*.tar.gz")
        begun = work / "begun"
        begun.mkdir(exist_ok=True)
        with tarfile.open(archive) as packed:
            for member in packed:
                if member.isfile() and "/deps/jars/" in member.name:
                    content = packed.extractfile(member)
                    assert content
                    with (begun / Path(member.name).name).open("wb") as target:
                        shutil.copyfileobj(content, target)
        begun.rename(jars)
        archive.unlink()
    if not client.exists():
        subprocess.run([*pip, "install", "--no-deps", "--target", str(client), CLIENT], check=True)


@contextmanager
def hdfs(work: Path) -> Iterator[str]:
    """The URL of an empty HDFS for the time of the block."""
    data, conf = work / "data", work / "conf"
    shutil.rmtree(data, ignore_errors=True)
    url = f"hdfs://127.0.0.1:{free_port()}"
    configure(conf, data, url)
    java = ["java", *OPENED, "-Xmx256m", "-cp", f"{conf}:{work / 'jars'}/*"]
    package = "org.apache.hadoop.hdfs.server"
    subprocess.run(
        [*java, f"{package}.namenode.NameNode", "-format", "-nonInteractive"], check=True, capture_output=True
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        for node, ready in NODES.items():
            log = work / f"{node}.log"
            with log.open("wb") as file:
                started.append(subprocess.Popen([*java, f"{package}.{node}"], stdout=file, stderr=file))
            wait_for(ready, log, started[-1])
        yield url
    finally:
        for process in started:
            process.terminate()
            process.wait()


def configure(conf: Path, data: Path, url: str) -> None:
    """One copy of each block, everything on 127.0.0.1. The servers' web pages, which the jars lack, are empty."""
    anywhere = "127.0.0.1:0"
    core = {"fs.defaultFS": url, "hadoop.tmp.dir": str(data)}
    site = {
        "dfs.replication": "1",
        "dfs.webhdfs.enabled": "false",
        "dfs.namenode.http-address": anywhere,
        "dfs.datanode.address": anywhere,
        "dfs.datanode.ipc.address": anywhere,
        "dfs.datanode.http.address": anywhere,
    }
    for page in ("hdfs", "datanode"):
        folder = conf / "webapps" / page / "WEB-INF"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "web.xml").write_text("<web-app/>")
    for name, properties in (("core-site.xml", core), ("hdfs-site.xml", site)):
        (conf / name).write_text(f"<configuration>{''.join(lines(properties))}</configuration>")
    (conf / "log4j.properties").write_text(LOG4J)


def lines(properties: Mapping[str, str]) -> Iterator[str]:
    """Hadoop's settings in XML."""
    for name, value in properties.items():
        yield f"<property><name>{name}</name><value>{value}</value></property>"


def free_port() -> int:
    """One that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(ready: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a server logs that it is ready; SystemExit if it ends, or takes too long."""
    until = time.monotonic() + SECONDS
    while ready not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"a server of HDFS has not started; see {log}.")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
