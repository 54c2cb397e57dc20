"""The written list of escape attempts: what a student may try from inside a box. Stands alone; runs in the box.

Each attempt is a function. It returns what it got hold of, when it got out; None, or an OSError, means that it did not.
`FACTS` is filled in by the test: a secret file, a port, a socket, a process id outside. Run outside a box, the marked
ones succeed: that is how the tests know that the attempts are real.
"""

# Bare system calls are meant here.
# ruff: noqa: PTH

import ctypes
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

FACTS: dict[str, str] = {}
ATTEMPTS: dict[str, Callable[[], object]] = {}
REAL_OUTSIDE: list[str] = []  # attempts that must succeed in a plain process
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
NEW_USER, NEW_NS, REMOUNT, BIND, RDONLY_TO_RW = 0x10000000, 0x00020000, 32, 4096, 32 | 4096


def attempt(function: Callable[[], object]) -> Callable[[], object]:
    """Put a function on the list."""
    ATTEMPTS[function.__name__] = function
    return function


def real(function: Callable[[], object]) -> Callable[[], object]:
    """... and hold it to succeed outside."""
    REAL_OUTSIDE.append(function.__name__)
    return attempt(function)


def call(name: str, *arguments: object) -> object:
    """A function of libc; OSError when it fails."""
    result = getattr(LIBC, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return f"{name} returned {result}"


# --- files ---


@real
def read_the_secret_of_the_home() -> object:
    return Path(FACTS["secret"]).read_text()


@real
def read_the_secret_through_a_symlink() -> object:
    Path("link").symlink_to(FACTS["secret"])
    return Path("link").read_text()


@attempt
def read_the_secret_through_the_first_process() -> object:
    return Path(f"/proc/1/root{FACTS['secret']}").read_text()


@attempt
def read_the_secret_relative_to_an_open_folder() -> object:
    for fd in os.listdir("/proc/self/fd"):
        try:
            inner = os.open(FACTS["secret"].lstrip("/"), os.O_RDONLY, dir_fd=int(fd))
            return os.read(inner, 100)
        except OSError:
            continue
    return None


@attempt
def read_etc_shadow() -> object:
    return Path("/etc/shadow").read_bytes()


@real
def read_etc_passwd() -> object:
    return Path("/etc/passwd").read_bytes()


@real
def find_the_references() -> object:
    found = [str(p) for p in Path("/").glob("*/lm_core")] + [str(p) for p in Path("/").glob("*/judge")]
    return found or (Path(FACTS["root"], "lm_core", "judge").is_dir() or None)


@real
def write_where_the_server_looks() -> object:
    Path(FACTS["writable"], "written").write_text("x")
    return "written"


@attempt
def write_into_the_packages() -> object:
    for path in sys.path:
        for name in ("torch/__init__.py", "new_package.py"):
            try:
                with Path(path, name).open("a") as file:
                    file.write("# changed\n")
                return path
            except OSError:
                continue
    return None


@attempt
def write_into_our_files() -> object:
    with Path(FACTS["worker"]).open("a") as file:
        file.write("# changed\n")
    return "changed"


@attempt
def write_anywhere_but_tmp() -> object:
    tops = [entry for entry in Path("/").iterdir() if entry.is_dir() and entry.name not in ("tmp", "proc")]
    for folder in [Path("/"), Path("/dev"), Path("/dev/shm"), Path("/run"), *tops]:
        try:
            (folder / "mine").write_text("x")
            return str(folder)
        except OSError:
            continue
    return None


@attempt
def make_the_packages_writable() -> object:
    for path in sys.path:
        try:
            os.chmod(path, 0o777)
            return path
        except OSError:
            continue
    return None


# --- mounts, roots, namespaces ---


@attempt
def remount_usr_writable() -> object:
    return call("mount", b"none", b"/usr/lib", None, RDONLY_TO_RW, None)


@attempt
def remount_the_packages_writable() -> object:
    return call("mount", b"none", sys.path[-1].encode(), None, REMOUNT | BIND, None)


@attempt
def mount_a_tmpfs() -> object:
    return call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None)


@attempt
def unmount_the_root() -> object:
    return call("umount2", b"/tmp", 2)


@attempt
def change_the_root() -> object:
    return os.chroot("/tmp") or "changed"


@attempt
def make_a_user_namespace() -> object:
    return call("unshare", NEW_USER)


@attempt
def make_a_mount_namespace() -> object:
    return call("unshare", NEW_NS)


@attempt
def clone_into_a_user_namespace() -> object:
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    return call("syscall", number, NEW_USER | 17, None, None, None, None)


@attempt
def join_the_namespaces_of_the_first_process() -> object:
    return call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)


# --- other processes ---


@real
def see_other_processes() -> object:
    return [name for name in os.listdir("/proc") if name.isdigit() and int(name) > 9] or None


@attempt
def read_the_environment_of_the_server() -> object:
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if FACTS["marker"].encode() in entry.read_bytes():
                return str(entry)
        except OSError:
            continue
    return None


@real
def find_the_marker_in_my_environment() -> object:
    return FACTS["marker"] if FACTS["marker"] in os.environ.values() else None


@real
def signal_the_server() -> object:
    os.kill(int(FACTS["server"]), 0)
    return "signalled"


@attempt
def kill_the_parent() -> object:
    os.kill(os.getppid(), 0)
    return None if FACTS["inside"] == "no" else "killed"


@attempt
def kill_everybody() -> object:
    return None if FACTS["inside"] == "no" else os.kill(-1, 9) or "killed"


@attempt
def trace_the_parent() -> object:
    return call("ptrace", 16, os.getppid(), None, None) if FACTS["inside"] == "yes" else None


@attempt
def read_the_memory_of_the_first_process() -> object:
    with Path("/proc/1/mem").open("rb") as file:
        return file.read(1) or "opened"


@real
def fork() -> object:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "forked"


@real
def start_a_program() -> object:
    return subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0


@attempt
def stay_behind_after_the_end() -> object:
    if FACTS["inside"] == "no":
        return None
    if os.fork() == 0:
        os.setsid()
        while True:
            pass
    return "stayed"


# --- networks ---


@real
def reach_a_server_on_this_computer() -> object:
    with socket.create_connection(("127.0.0.1", int(FACTS["port"])), timeout=2):
        return "connected"


@attempt
def ask_a_name_server() -> object:
    if FACTS["inside"] == "no":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.sendto(b"x", ("192.0.2.1", 53))


@real
def reach_a_unix_socket() -> object:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(FACTS["unix"])
        return "connected"


@real
def reach_an_abstract_socket() -> object:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\0" + FACTS["abstract"])
        return "connected"


@attempt
def make_a_raw_socket() -> object:
    if FACTS["inside"] == "no":
        return None
    return str(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))


# --- rights ---


@attempt
def become_root() -> object:
    os.setuid(0)
    return "root" if FACTS["inside"] == "yes" else None


@attempt
def am_root_or_hold_capabilities() -> object:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    return held or os.getuid() == 0 or status["NoNewPrivs"].strip() != "1" or None


@attempt
def run_a_setuid_program() -> object:
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/usr/lib", "/usr/lib/openssh", "/usr/lib/dbus-1.0", "/python/bin"):
        for path in Path(folder).glob("*") if Path(folder).is_dir() else ():
            if path.is_file() and os.stat(path).st_mode & 0o6000:
                with path.open("rb"):
                    # it is there: would it help? Only on a mount that honours the bit
                    if not os.statvfs(path).f_flag & os.ST_NOSUID:
                        return str(path)
    return None


@attempt
def make_a_setuid_program() -> object:
    Path("mine").write_bytes(b"#!x")
    os.chmod("mine", 0o4755)
    return None if os.statvfs("mine").f_flag & os.ST_NOSUID else "honoured"


@attempt
def raise_the_limits() -> object:
    for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        _, hard = resource.getrlimit(what)
        if hard == resource.RLIM_INFINITY:
            return f"no limit {what}"
        try:
            resource.setrlimit(what, (hard + 1, hard + 1))
            return f"raised {what}"
        except (ValueError, OSError):
            continue
    return None


# --- devices and the kernel ---


@attempt
def see_devices() -> object:
    known = {"null", "zero", "urandom"}
    return sorted(set(os.listdir("/dev")) - known) or None


@attempt
def make_a_device() -> object:
    os.mknod("disk", 0o60666, os.makedev(254, 0))
    return "made"


@attempt
def write_a_kernel_setting() -> object:
    for name in ("kernel/core_pattern", "kernel/hostname", "vm/overcommit_memory", "kernel/sysrq"):
        try:
            with Path("/proc/sys", name).open("r+") as file:
                return file.name
        except OSError:
            continue
    return None


def _number(x86: int, arm: int) -> int:
    return {"x86_64": x86, "aarch64": arm}[os.uname().machine]


@attempt
def have_a_keyring() -> object:
    return call("syscall", _number(250, 219), 0, -4, 1)


@attempt
def set_up_io_uring() -> object:
    return call("syscall", 425, 8, ctypes.create_string_buffer(256))


@attempt
def load_a_bpf_program() -> object:
    return call("syscall", _number(321, 280), 0, ctypes.create_string_buffer(256), 128)


@real
def hold_memory_that_nobody_counts() -> object:
    return os.memfd_create("x")


@attempt
def type_into_the_terminal() -> object:
    import fcntl

    return fcntl.ioctl(os.open("/dev/null", os.O_RDWR), 0x5412, b"x")


def run() -> dict[str, str]:
    """Try them all: name -> "" where it failed, else what it got."""
    results = {}
    for name, function in ATTEMPTS.items():
        try:
            got = function()
        except (OSError, ValueError, subprocess.SubprocessError, KeyError):
            got = None
        results[name] = "" if got is None else str(got)[:80]
    return results
