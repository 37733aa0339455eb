"""What this runtime supports, as features.md and features-linux.md of the runtime-spec have it.

Every list comes from the module that implements it. What the machine can do plays no part, but
for the flags of seccomp(2) that its kernel knows, for which the structure has a list.
"""

from __future__ import annotations

from engine.runtime.process.capabilities import NAMES as CAPABILITIES
from engine.runtime.rootfs.options import known_options
from engine.runtime.seccomp import architectures
from engine.runtime.seccomp.actions import ACTIONS, FLAGS, OPERATORS
from engine.runtime.seccomp.load import supports
from engine.runtime.spec.linux import MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, NAMESPACES
from engine.runtime.spec.version import NEWEST, OLDEST

HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)


def features_document(version: str) -> dict[str, object]:
    """The features structure; `version` is that of the command that prints it. Raises
    Unsupported on a machine without seccomp(2)."""
    return {
        "ociVersionMin": OLDEST,
        "ociVersionMax": NEWEST,
        "hooks": list(HOOKS),
        "mountOptions": list(known_options()),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": list(CAPABILITIES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": False,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": list(architectures.known()),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(name for name, flag in FLAGS.items() if supports(flag)),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "memoryPolicy": {
                "modes": list(MEMORY_POLICY_MODES),
                "flags": list(MEMORY_POLICY_FLAGS),
            },
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"imgtools.runtime.version": version},
        # No annotation changes what this runtime does: images may set them.
        "potentiallyUnsafeConfigAnnotations": [],
    }
