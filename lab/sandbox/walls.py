"""The command line of a box: what it sees of this computer, and what it may not do.

It sees the interpreter, the packages, the system's libraries and the files of its profile, all read-only, and an empty
folder of 64 MiB in memory. There is no home, no /etc, no other process, no network, no device but null and random.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from lab.sandbox import calls

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside.py")
CALLS = Path(__file__).with_name("calls.py")
PAGE_WORKER = Path(__file__).with_name("page_worker.py")
JUDGE_WORKER = ROOT / "lm_core" / "judge" / "worker.py"
DISK_BYTES = 64 * 2**20
FOLDER = "/tmp/work"
# The whole environment of a box's first process.
NO_SECRETS = {"PATH": os.environ.get("PATH", os.defpath)}

# As root: bind what the box needs where another uid can reach it, in mounts of our own, and become that uid for good.
# bubblewrap run as root would be no sandbox: whoever is root in there can mount /usr again, writable.
AS_ROOT = """
set -e
stage=$1 uid=$2; shift 2
mount -t tmpfs -o mode=755,size=1m,nosuid,nodev tmpfs "$stage"
i=0
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir "$stage/$i"; else : > "$stage/$i"; fi
  mount --bind "$1" "$stage/$i"
  i=$((i+1)); shift
done
shift
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --inh-caps -all --bounding-set -all "$@"
"""


def packages() -> list[Path]:
    """The folders of installed packages that this interpreter searches."""
    found = (Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages"))
    return list(dict.fromkeys(path.resolve() for path in found if path.is_dir()))


def _interpreter() -> list[tuple[Path, str]]:
    """The interpreter itself and its libraries, without the environment around it."""
    base = Path(sys.base_prefix).resolve()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = Path(sys.executable).resolve()
    mounts = [(program, f"/python/bin/{name}"), (base / "lib", "/python/lib")]
    if sysconfig.get_config_var("platlibdir") == "lib64":
        mounts.append((base / "lib64", "/python/lib64"))
    return mounts


def _profile(profile: str) -> list[tuple[Path, str]]:
    """The files of ours that a profile sees."""
    mounts = [(INSIDE, "/app/inside.py")]
    if profile == "check":
        return [*mounts, (JUDGE_WORKER, "/app/worker.py")]
    if profile == "page":
        mounts += [(ROOT / "lm_core", "/app/lm_core"), (PAGE_WORKER, "/app/lab/sandbox/page_worker.py")]
    return [mount for mount in mounts if mount[0].exists()]


def _system() -> list[str]:
    """The system's libraries, where the loader looks for them."""
    words = []
    for name in ("lib", "lib64"):
        path = Path("/", name)
        if Path("/usr", name).is_dir():
            words += ["--ro-bind", f"/usr/{name}", f"/usr/{name}"]
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    return [*words, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def environment(folder: str, app: str, paths: list[str]) -> dict[str, str]:
    """All that a worker is told about the world."""
    return {
        "HOME": folder,
        "USER": "student",
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
        "LM_LAB_PAGE_WORKER": f"{app}/lab/sandbox/page_worker.py",
        "LM_LAB_SANDBOX_PATHS": os.pathsep.join([app, *paths]),
    }


def boxed(profile: str, uid: int | None, run: list[str] | None = None) -> tuple[list[str], BinaryIO]:
    """The command that starts a worker in a box, and the open file of system calls, to be passed on to it.

    uid: whom root becomes; None when this process is not root. run: another program of ours than `inside` (a test's).
    Raises ImportError, OSError or RuntimeError without libseccomp.
    """
    installed = [(path, f"/python/packages/{i}") for i, path in enumerate(packages())]
    kept = [*_interpreter(), *installed, *_profile(profile)]
    if uid is None:
        front, sources = [], [str(source) for source, _ in kept]
    else:
        stage = _stage()
        front = ["unshare", "--mount", "--propagation", "private", "sh", "-c", AS_ROOT, "sh", stage, str(uid)]
        front += [*(str(source) for source, _ in kept), "--"]
        sources = [f"{stage}/{i}" for i in range(len(kept))]
    filter_ = _filter_file()
    words = [
        *front, "bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--new-session",
        "--clearenv", "--cap-drop", "ALL", "--hostname", "lm-lab", *_system(),
        *(word for source, (_, place) in zip(sources, kept, strict=True) for word in ("--ro-bind", source, place)),
        "--proc", "/proc",
        *(word for name in ("null", "zero", "urandom") for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
        "--size", str(DISK_BYTES), "--tmpfs", "/tmp", "--dir", FOLDER, "--remount-ro", "/", "--chdir", FOLDER,
        "--seccomp", str(filter_.fileno()),
    ]  # fmt: skip
    for name, value in environment(FOLDER, "/app", [place for _, place in installed]).items():
        words += ["--setenv", name, value]
    python = next(place for _, place in kept if place.startswith("/python/bin/"))
    words += ["--setenv", "LD_LIBRARY_PATH", "/python/lib", "--", python, "-I", "-S", "-B"]
    return [*words, *(run or ["/app/inside.py", profile])], filter_


def bare(profile: str, app: Path) -> list[str]:
    """The command without a box. A guard stands between server and student: `os.kill(os.getppid())` meets the guard."""
    guard = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
    python = [sys.executable, "-I", "-S", "-B"]
    return [*python, "-c", guard, *python, str(app / "inside.py"), profile, str(app / "calls.py")]


def bare_app(profile: str, folder: Path) -> Path:
    """A folder with the files of a profile, copied: `inside` looks for its neighbours beside itself."""
    app = folder / "app"
    (app / "lab" / "sandbox").mkdir(parents=True)
    shutil.copyfile(INSIDE, app / "inside.py")
    shutil.copyfile(CALLS, app / "calls.py")
    if profile == "check":
        shutil.copyfile(JUDGE_WORKER, app / "worker.py")
    elif PAGE_WORKER.is_file():
        shutil.copyfile(PAGE_WORKER, app / "lab" / "sandbox" / "page_worker.py")
    return app


@lru_cache(maxsize=1)
def _stage() -> str:
    """A folder to mount on; it stays empty outside the worker's own mounts."""
    return tempfile.mkdtemp(prefix="lm-lab-stage-")


def _filter_file() -> BinaryIO:
    """The filter of system calls as a program for the kernel, ready to be read."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it, when the box has inherited it
    file.write(_filter_bytes())
    file.seek(0)
    return file


@lru_cache(maxsize=1)
def _filter_bytes() -> bytes:
    with tempfile.TemporaryFile() as file:
        calls.forbid().export_bpf(file)
        file.seek(0)
        return file.read()


def bare_process(profile: str, folder: Path, uid: int | None) -> dict[str, Any]:
    """The arguments of Popen for a worker without a box, in an empty folder and with an environment without secrets."""
    app, work = bare_app(profile, folder), folder / "work"
    work.mkdir()
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ}  # Windows
    paths = [str(path) for path in packages()] + ([str(ROOT)] if profile == "page" else [])
    who: dict[str, Any] = {}
    if uid is not None:
        who = {"user": uid, "group": uid, "extra_groups": []}
        folder.chmod(0o755)
        os.chown(work, uid, uid)
    return {
        "args": bare(profile, app),
        "cwd": work,
        "env": kept | environment(str(work), str(app), paths),
        **who,
    }


@lru_cache(maxsize=1)
def counts_by_namespace() -> bool:
    """Whether this Linux counts RLIMIT_NPROC in each user namespace (5.14 and later)."""
    release = [int(part) for part in re.findall(r"\d+", os.uname().release)[:2]]
    return release >= [5, 14]


def threads_of(uid: int | None) -> int | None:
    """How many threads an account runs now (ours by default); None where the system does not tell."""
    owner, count = os.getuid() if uid is None and hasattr(os, "getuid") else uid, 0
    for tasks in Path("/proc").glob("[0-9]*/task"):
        try:
            if tasks.stat().st_uid == owner:
                count += len(list(tasks.iterdir()))
        except OSError:  # it ended meanwhile
            continue
    return count or None
