"""The system calls that student code has no use for, refused by the kernel (seccomp).

It earns its place thrice: no process can be forked, in the box or without one, so there is no fork bomb and nothing
stays behind; memory that no address limit counts (memfd, shared segments, message queues) cannot be had; and the calls
through which sandboxes have been left (mounts, namespaces, ptrace, bpf, io_uring, keyrings) are not reached at all.
This file stands alone: `inside` reads it in a process that knows nothing else of ours.
"""

import errno
from typing import Any

FORBIDDEN = (
    # another process; a thread is a clone too, see `forbid`
    "fork", "vfork", "execveat",
    # a signal to anyone
    "kill", "tkill", "tgkill", "pidfd_send_signal", "pidfd_open", "pidfd_getfd", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    # another's memory
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
    # mounts, namespaces, roots
    "mount", "umount", "umount2", "pivot_root", "chroot", "unshare", "setns", "open_tree", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at", "name_to_handle_at",
    # a network, or a socket in a file
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4",
    # memory that is not in the address space
    "memfd_create", "memfd_secret", "shmget", "shmat", "msgget", "semget", "mq_open",
    # parts of the kernel that are large and rarely needed
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key",
    "keyctl", "request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "acct",
    "swapon", "swapoff", "reboot", "quotactl", "syslog", "personality", "iopl", "ioperm", "fanotify_init",
    "inotify_init", "inotify_init1", "lookup_dcookie", "vhangup", "nfsservctl", "settimeofday", "clock_settime",
)  # fmt: skip
CLONE_THREAD = 0x00010000
TIOCSTI = 0x5412


def forbid() -> Any:
    """The filter: all calls but these are allowed, these fail with EPERM.

    Raises ImportError, OSError or RuntimeError where the system has no libseccomp.
    """
    import pyseccomp as seccomp

    filter_ = seccomp.SyscallFilter(seccomp.ALLOW)
    denied = seccomp.ERRNO(errno.EPERM)
    for name in FORBIDDEN:
        try:
            filter_.add_rule(denied, name)
        except (ValueError, OSError):  # an older libseccomp does not know it, or this processor does not have it
            continue
    # A clone may make a thread and nothing else. clone3 hides its flags; without it, libc falls back to clone.
    filter_.add_rule(denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, 0))
    filter_.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    filter_.add_rule(denied, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, TIOCSTI))
    return filter_
