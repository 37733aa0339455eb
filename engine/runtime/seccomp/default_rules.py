"""The rules of the default profile as data: which calls any container may make, which a capability
opens, and which belong to one architecture.

Source: the profile that podman, buildah and CRI-O use (containers/common pkg/seccomp, as of
2026), ordered anew by subject. Deliberate differences are in default_profile.py.
"""

from __future__ import annotations

_SIGNALS = """
alarm kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sigaltstack signal signalfd signalfd4 sigprocmask sigreturn tgkill tkill
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep
setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
timerfd_settime64 times
"""
_CREDENTIALS = """
capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
getresgid getresgid32 getresuid getresuid32 getuid getuid32 keyctl setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32
setresuid setresuid32 setreuid setreuid32 setuid setuid32
"""
_MOUNTS = """
fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root umount
umount2
"""
_SOCKETS = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair
"""
_IPC = """
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
semtimedop_time64 shmat shmctl shmdt shmget
"""
_MEMORY = """
brk get_mempolicy madvise mbind membarrier memfd_create memfd_secret mincore mlock mlock2
mlockall mmap mmap2 mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free
pkey_mprotect process_mrelease process_vm_readv process_vm_writev remap_file_pages set_mempolicy
"""
_WAITING = """
_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
epoll_wait epoll_wait_old eventfd eventfd2 fanotify_init fanotify_mark futex futex_requeue
futex_time64 futex_wait futex_waitv futex_wake inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel io_destroy io_getevents io_setup io_submit poll ppoll ppoll_time64
pselect6 pselect6_time64 select
"""
_PROCESSES = """
clone clone3 execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getpgid
getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set
landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_getfd pidfd_open prctl
prlimit64 rseq sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid ugetrlimit
unshare vfork wait4 waitid waitpid
"""
# The machine as a whole too: uname, sysinfo, syslog, reboot (of the own PID namespace).
_FILES = """
_llseek access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3
faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown
fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr
fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents
getdents64 getrandom getxattr ioctl lchown lchown32 lgetxattr link linkat listxattr llistxattr
lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv reboot removexattr rename renameat renameat2 rmdir sendfile
sendfile64 setxattr splice stat stat64 statfs statfs64 statx symlink symlinkat sync
sync_file_range syncfs sysinfo syslog tee truncate truncate64 umask uname unlink unlinkat utime
utimensat utimensat_time64 utimes write writev
"""

ALLOWED = (
    _SIGNALS,
    _TIME,
    _CREDENTIALS,
    _MOUNTS,
    _SOCKETS,
    _IPC,
    _MEMORY,
    _WAITING,
    _PROCESSES,
    _FILES,
)

# Refused with EPERM whatever the capabilities: obsolete, or doors into the kernel that have
# been used before. Everything else that is not listed does not exist (ENOSYS).
REFUSED = """
bdflush cachestat io_pgetevents io_pgetevents_time64 kexec_file_load kexec_load map_shadow_stack
migrate_pages move_pages nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname
pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask swapoff swapon sysfs uselib
userfaultfd ustat vm86 vm86old vmsplice
"""

# Calls, and the capabilities of which any one opens them; EPERM without.
GATED = (
    ("open_by_handle_at", ("CAP_DAC_READ_SEARCH",)),
    ("lookup_dcookie quotactl quotactl_fd setdomainname sethostname", ("CAP_SYS_ADMIN",)),
    ("bpf", ("CAP_SYS_ADMIN", "CAP_BPF")),
    ("perf_event_open", ("CAP_SYS_ADMIN", "CAP_PERFMON")),
    ("chroot", ("CAP_SYS_CHROOT",)),
    ("delete_module finit_module init_module query_module", ("CAP_SYS_MODULE",)),
    ("acct", ("CAP_SYS_PACCT",)),
    ("kcmp process_madvise", ("CAP_SYS_PTRACE",)),
    ("ioperm iopl", ("CAP_SYS_RAWIO",)),
    ("clock_settime clock_settime64 settimeofday stime", ("CAP_SYS_TIME",)),
    ("vhangup", ("CAP_SYS_TTY_CONFIG",)),
)

# Entering namespaces is open to all: what may be entered the kernel decides.
ENTERING = "setns"
# Before 4.8 a tracer could change a call after the filter had looked at it.
TRACING, TRACING_SINCE = "ptrace", (4, 8)

# Calls of one machine (uname's word).
OF_MACHINE = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": (
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"
    ),
    "ppc64le": "swapcontext sync_file_range2",
    "riscv64": "riscv_flush_icache",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}

# PER_LINUX, PER_LINUX32, both with UNAME26, and the question which one is set.
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
