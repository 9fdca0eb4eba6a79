#!/usr/bin/env python3
"""Runs tlsfuzzer, a public suite of tests for TLS servers, against the server's own port.

    TLS_SUITE     a directory with checkouts of tlsfuzzer, tlslite-ng and python-ecdsa side by side, and in `packages`
                  what they need (pip install --target packages six kyber-py), and what makes them fast (gmpy2
                  pycryptodome)
    URINGEST      the server's program; target/debug/uringest when it is not set

`run.py [PART_OF_A_SCRIPT'S_NAME...]`. Fails when a probe fails that the table (cases.py) does not expect, and when the
table expects what no longer happens. docs/tls-conformance.md says what comes out, and why.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.dont_write_bytecode = True
from cases import CASES, SERVERS  # noqa: E402

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHECKOUTS = ("tlsfuzzer", "tlslite-ng", "python-ecdsa")
SCRIPT_SECONDS = 540
START_SECONDS = 20
AT_ONCE = 3
PROBE = re.compile(r"^(.+?)(?: repeat \d+| )\.\.\.$", re.MULTILINE)
ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception)\b.*$", re.MULTILINE)


def main():
    suite = os.environ.get("TLS_SUITE")
    missing = [name for name in CHECKOUTS if not suite or not (Path(suite) / name).is_dir()]
    if missing:
        print(f"skipped: TLS_SUITE names no directory with checkouts of {', '.join(missing)}")
        return 0
    if not shutil.which("openssl"):
        print("skipped: no program `openssl` to make certificates with")
        return 0
    cases = [case for case in CASES if not sys.argv[1:] or any(part in case.script for part in sys.argv[1:])]
    with tempfile.TemporaryDirectory() as directory:
        servers = {}
        try:
            for name in sorted({case.server for case in cases}):
                servers[name] = Server(name, Path(directory))
            with ThreadPoolExecutor(AT_ONCE) as pool:
                results = list(pool.map(lambda case: run(Path(suite), case, servers[case.server]), cases))
            dead = [name + server.last_words() for name, server in servers.items() if server.process.poll() is not None]
        finally:
            for server in servers.values():
                server.stop()
    return report(cases, results, dead)


class Server:
    """A server of ours with the certificates of its row in the table."""

    def __init__(self, name, directory):
        program = os.environ.get("URINGEST", ROOT / "target/debug/uringest")
        self.directory = directory / name
        self.directory.mkdir()
        (self.directory / "server.toml").write_text(SERVERS[name](self.directory, program))
        self.port, admin = free_port(), free_port()
        command = [program, "serve", "--config", "server.toml", "--data", "data", "--shards", "2", "--pin=false"]
        command += ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{admin}"]
        self.log = open(self.directory / "log", "wb")
        self.process = subprocess.Popen(command, cwd=self.directory, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"server {name}: {(self.directory / 'log').read_text()}")
                time.sleep(0.05)

    def last_words(self):
        return f" ({self.process.returncode}): ..." + (self.directory / "log").read_text()[-6000:]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Result:
    """What came of one script: how many probes passed, those that failed, and when it did not run, its last words."""

    def __init__(self, output, code):
        marks = list(PROBE.finditer(output))
        self.passed, self.failed = 0, []
        for mark, after in zip(marks, marks[1:] + [None]):
            body = output[mark.end() : after.start() if after else len(output)]
            errors = ERROR.findall(body)
            if body.lstrip().startswith("OK"):
                self.passed += 1
            elif errors:
                self.failed.append((mark[1], errors[-1]))
        self.broken = output[-600:] if not marks or (code and not self.failed) else None


def run(suite, case, server):
    path = [str(suite / part) for part in ("tlsfuzzer", "tlslite-ng", "python-ecdsa/src", "packages")]
    wrapper = [str(HERE / "as_uringest.py")] if case.as_uringest else []
    arguments = [argument.replace("{server}", str(server.directory)) for argument in case.arguments]
    command = [sys.executable, *wrapper, f"scripts/{case.script}.py", "-h", "127.0.0.1", "-p", str(server.port)]
    command += arguments
    environment = {**os.environ, "PYTHONPATH": ":".join(path)}
    try:
        done = subprocess.run(
            command, cwd=suite / "tlsfuzzer", env=environment, text=True, errors="replace", timeout=SCRIPT_SECONDS,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )
        return Result(done.stdout, done.returncode)
    except subprocess.TimeoutExpired:
        return Result(f"not done within {SCRIPT_SECONDS} s", 1)


def report(cases, results, dead):
    bad = [f"server {name} is gone" for name in dead]
    print(f"{'script':<58}{'probes':>7}{'passed':>7}{'apart':>7}{'wrong':>7}")
    sums = [0, 0, 0, 0]
    for case, result in zip(cases, results):
        label = f"{case.script.removeprefix('test-')} ({case.server})"
        used, wrong = set(), []
        for probe, error in result.failed:
            rule = next((rule for rule in case.apart if rule.covers(probe, error)), None)
            used.add(rule)
            if rule is None:
                wrong.append(f"{label}: {probe}: {error}")
        if result.broken:
            wrong.append(f"{label}: did not run: {result.broken}")
        wrong += [f"{label}: no probe fails as said: {rule}" for rule in case.apart if rule.always and rule not in used]
        apart = sum(any(rule.covers(*failed) for rule in case.apart) for failed in result.failed)
        row = [result.passed + len(result.failed), result.passed, apart, len(wrong)]
        sums = [total + number for total, number in zip(sums, row)]
        print(f"{label:<58}" + "".join(f"{number:>7}" for number in row))
        bad += wrong
    print(f"{len(cases)} runs of scripts".ljust(58) + "".join(f"{number:>7}" for number in sums))
    for line in bad:
        print(line)
    print("ok" if not bad else f"{len(bad)} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
