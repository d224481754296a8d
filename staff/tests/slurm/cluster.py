"""A SLURM cluster with one node and two fake GPUs, from Debian's packages, without system services or cgroups.

    apt-get install slurm-wlm munge
    python staff/tests/slurm/cluster.py                  # run until Ctrl-C; print how other terminals can use it
    python staff/tests/slurm/cluster.py -- bash -c 'sbatch part1_vae/train.job --accelerator cpu; squeue'

It needs root. Its files are in a temporary folder, and it uses free ports. The daemons and jobs end with this program.
If it is killed, the kernel ends them: the daemons get a parent-death signal, and the node has a PID namespace, where no
process outlives slurmd. The GPUs are mere device files: no program can compute on them.
"""

import argparse
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

NEEDED = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "squeue", "setpriv", "unshare")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CONFIGURATION = """
ClusterName=course
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# how long a requeued job waits
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_delay}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# neither systemd nor cgroups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1
GresTypes=gpu
# the node may claim more processors and memory than the machine has
SlurmdParameters=config_overrides
KillWait=10
SlurmdTimeout=20
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(Exception):
    """Raised if SLURM cannot be started on this machine; the message says why."""


class Cluster:
    """A SLURM cluster that runs inside a `with Cluster() as cluster:` block.

    `disk` is a folder on a disk of 6 MB.

    Args:
        requeue_delay: seconds that a requeued job waits, at least 5; SLURM replaces lower values with its default, 120.
    """

    def __init__(self, requeue_delay: int = 120):
        self.requeue_delay = requeue_delay
        self.host = socket.gethostname().split(".")[0]
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.disk = self.folder / "disk"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))},
            "PATH": PATH, "SLURM_CONF": str(self.folder / "slurm.conf"),
        }  # fmt: skip
        self.daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemons, and wait until the node accepts jobs.

        Raises:
            Unavailable: a program is missing, or a daemon does not start.
        """
        if missing := [name for name in NEEDED if not shutil.which(name, path=PATH)]:
            raise Unavailable(f"{', '.join(missing)} not found; apt-get install slurm-wlm munge")
        self.folder.chmod(0o755)
        self._configure()
        self._run("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(self.disk))  # before the node unshares mounts
        self._run("mungekey", "--create", f"--keyfile={self.folder / 'munge.key'}")
        files = {"key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log", "socket": "socket"}
        options = [f"--{option}={self.folder}/munge.{file}" for option, file in files.items()]
        self._start("munged", "--foreground", "--num-threads=2", *options)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged has no socket")
        self._start("slurmctld", "-D")
        self._wait(lambda: self._run("scontrol", "ping", check=False).returncode == 0, "slurmctld does not answer")
        self.start_node()

    def start_node(self) -> None:
        self._start("slurmd", "-D", inside=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
        self._wait(lambda: self.node()["State"] == "IDLE", "the node does not become idle")

    def kill_node(self) -> None:
        """Kill the node as a power failure would: without signalling the jobs or notifying SLURM."""
        self._end("slurmd", signal.SIGKILL)

    def stop(self) -> None:
        """Stop everything that was started, and delete the folder."""
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name, signal.SIGKILL if name == "slurmd" else signal.SIGTERM)
        subprocess.run(["umount", "--lazy", self.disk], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- jobs and the node ------------------------------------------------------------------------------------------

    def submit(self, folder: Path, *words: str, **variables: str) -> str:
        """Run `sbatch` with these arguments in a folder; return the job ID."""
        command = ["sbatch", "--parsable", *words]
        ended = subprocess.run(
            command, cwd=folder, env={**self.environment, **variables}, text=True, capture_output=True
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def wait_until_idle(self) -> None:
        self._wait(lambda: not self.call("squeue", "--noheader").strip(), "jobs do not end", 60)

    def job(self, number: str) -> dict[str, str]:
        """Return the fields that `scontrol show job` prints."""
        return _fields(self._run("scontrol", "-o", "show", "job", number).stdout)

    def node(self) -> dict[str, str]:
        return _fields(self._run("scontrol", "-o", "show", "node", self.host).stdout)

    def call(self, *command: str) -> str:
        """Run a SLURM command; return its output."""
        return self._run(*command).stdout

    def wait(self, number: str, condition: Callable[[dict[str, str]], bool], seconds: float = 120) -> dict[str, str]:
        """Wait until the job's fields satisfy the condition; return them."""
        patience = time.monotonic() + seconds
        while not condition(job := self.job(number)):
            assert time.monotonic() < patience, job
            time.sleep(0.5)
        return job

    # --- processes --------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        ports = _free_ports(2)
        values = {"controller_port": ports[0], "node_port": ports[1], "requeue_delay": self.requeue_delay}
        names = {"host": self.host, "folder": self.folder, "user": getpass.getuser()}
        (self.folder / "slurm.conf").write_text(CONFIGURATION.format(**values, **names))
        # each GPU needs a device file; without cgroups, SLURM does not control access to it
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        for name in ("state", "spool", "disk"):
            (self.folder / name).mkdir()

    def _start(self, *command: str, inside: Sequence[str] = ()) -> None:
        """Start a daemon that ends with this process, even if this process is killed."""
        words = ["setpriv", "--pdeathsig", "KILL", *inside, *command]
        with open(self.folder / f"{command[0]}.out", "w") as said:
            options = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said, "start_new_session": True}
            self.daemons[command[0]] = subprocess.Popen(words, env=self.environment, **options)

    def _end(self, name: str, signum: int) -> None:
        if daemon := self.daemons.pop(name, None):
            daemon.send_signal(signum)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        ended = subprocess.run(command, env=self.environment, text=True, capture_output=True, timeout=60)
        if check and ended.returncode:
            raise Unavailable(f"{' '.join(command)}: {(ended.stderr or ended.stdout).strip()}")
        return ended

    def _wait(self, condition: Callable[[], bool], problem: str, seconds: float = 30) -> None:
        patience = time.monotonic() + seconds
        while not condition():
            ended = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > patience:
                logs = [self.folder / f"{name}.out" for name in ended or self.daemons]
                said = "\n".join(path.read_text()[-1000:] for path in logs)
                raise Unavailable(f"{f'{ended[0]} ended' if ended else problem}: {said.strip()}")
            time.sleep(0.2)


def _fields(line: str) -> dict[str, str]:
    return dict(re.findall(r"(?:^|\s)([\w:/]+)=(\S*)", line))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requeue_delay", type=int, default=120, help="seconds that a requeued job waits")
    parser.add_argument("command", nargs="*", help="run this and stop; without it, wait for Ctrl-C")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with Cluster(args.requeue_delay) as cluster:
            if args.command:
                return subprocess.run(args.command, env=cluster.environment).returncode
            print(f"SLURM is running. In another terminal: export SLURM_CONF={cluster.folder}/slurm.conf", flush=True)
            signal.pause()
    except Unavailable as error:
        print(f"error: SLURM cannot be started here: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
