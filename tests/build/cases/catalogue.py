"""The edge cases of builds by number, and which tests hold each."""

from __future__ import annotations

from tests.numbered import REPOSITORY, numbered_tests

CASES = {
    # The language
    1: "a byte order mark at the start",
    2: "lines that end with CR LF, the end of a here-document too",
    3: "a directive after a comment is a comment",
    4: "a directive given twice",
    5: "the escape character ` and a backslash at the end of a line",
    6: "comments between the parts of a continued line",
    7: "empty lines between them",
    8: "a # behind spaces, and one in the middle of a line",
    9: "spaces behind the backslash that continues a line",
    10: "a backslash at the end of the file",
    11: "lines of more than 64 KiB, files of 10 MB",
    12: "an empty file, one with ARG alone, one without FROM",
    13: "single quotes are no JSON",
    14: "JSON of other things than strings is a shell command",
    15: "RUN [ -f x ] is a shell command",
    16: "here-documents: tabs, quotes, several, descriptors, <<<, no end, in ONBUILD",
    17: "flags: only in front, unknown ones, repeated ones",
    18: "instructions without arguments",
    # Variables
    19: "ARG in front of FROM is not seen inside",
    20: "a default that uses an earlier ARG",
    21: "FROM a variable that is not set",
    22: "ENV sees the values from before its line",
    23: "ENV of the base image, ENV and ARG in any order",
    24: "escaped and quoted variables",
    25: "errors and defaults in braces, patterns with special characters",
    26: "a dollar in the name of a source",
    27: "proxies are kept nowhere unless declared",
    28: "--build-arg without a value, and one that nothing declares",
    29: "TARGETARCH in FROM --platform",
    30: "--build-arg with an empty value",
    # Stages
    31: "names in any case",
    32: "stages by number, named ones too",
    33: "a stage called like an image, a context called like both",
    34: "stages that need each other, themselves, or later ones",
    35: "--target by name and number; errors in stages that are not built",
    36: "two stages of one name",
    37: "RUN in an empty stage; an image without layers",
    38: "names that are reserved",
    39: "ONBUILD fires after FROM, in order, once, with --from too",
    40: "the same base twice is looked up once",
    41: "COPY --from an image by digest, and of another platform",
    # COPY and ADD
    42: "the content of a directory, or the directory",
    43: "slashes at the end, files and directories in each other's place",
    44: "destinations below the working directory",
    45: "links on the way to the destination",
    46: "--link follows none",
    47: "patterns: escapes, spaces, nothing found",
    48: "a directory that is there keeps its mode and owner",
    49: "directories that are made on the way",
    50: "FIFOs, sockets and devices as sources",
    51: "hard links of another stage",
    52: "set-user-id bits and capabilities of another stage",
    53: "files that cannot be read, directories that cannot be written",
    54: "whatever the umask is",
    55: "times with fractions and before 1970",
    56: "names of any bytes and lengths",
    57: "a file that changes while it is copied",
    58: "archives: what is in them, what they are packed with, what is cut off",
    59: "URLs: redirects, errors, names",
    60: "repositories: references, directories, submodules, transports",
    61: "ignore files: order, exceptions, what they do not apply to",
    62: "contexts: standard input, archives, repositories, directories of all sorts",
    # RUN
    63: "a working directory that is not there",
    64: "users by name in a passwd file of the image's making",
    65: "HOME, PATH and what else is set",
    66: "exit codes and signals",
    67: "processes left in the background",
    68: "standard input is empty",
    69: "secrets are in no layer, history, key or log, nor in later steps",
    70: "what was made for mounts is gone, what was there stays",
    71: "cache mounts: sharing, names, failures, ids",
    72: "mounts over links, in each other, below the working directory",
    73: "resolv.conf and hosts: links, no /etc, changes",
    74: "RUN that removes or replaces what it stands on",
    75: "RUN that makes a file with the name of a whiteout",
    76: "RUN that changes nothing, or only what a file is said to be",
    77: "a file rewritten within one tick of the clock",
    78: "kinds of files exchanged, directories removed and made anew",
    79: "hard links across layers",
    80: "more layers than the kernel stacks",
    81: "programs that look at their ids, or set them",
    82: "programs of all sorts: static, threads, 32 bits, in memory",
    83: "programs that may be executed and not read",
    # Config
    84: "ENTRYPOINT takes an inherited CMD away",
    85: "SHELL is used for CMD, ENTRYPOINT and HEALTHCHECK",
    86: "HEALTHCHECK NONE, durations, in OCI images too",
    87: "EXPOSE: ranges, protocols, repetitions",
    88: "labels and variables keep their order",
    89: "VOLUME: JSON, words, repetitions",
    90: "history has an entry for each instruction and tells layers exactly",
    91: "fields of the base image: carried on, or left behind",
    92: "an OCI image on a base of docker's formats",
    93: "several platforms: index, attestations, variants, foreign programs",
    94: "squashed layers hide what they hid",
    95: "images without layers, builds that change only the config",
    96: "no space, an end in the middle of a step, half an entry in the cache",
    97: "pods: read-only roots, small scratch space, users without a name",
}

LATER: dict[int, str] = {}
"""Cases that are not held yet, and why."""


def cases_with_tests() -> dict[int, list[str]]:
    """The ids of tests by case, for every case."""
    files = [*(REPOSITORY / "tests/build").rglob("test_*.py"),
             *(REPOSITORY / "tests/engine").rglob("test_*.py")]  # fmt: skip
    found = numbered_tests(files, r"test_e(\d\d)_")
    return {number: found.get(f"{number:02}", []) for number in CASES}


def unknown_numbers() -> set[str]:
    """Numbers in names of tests that no case has."""
    files = [*(REPOSITORY / "tests/build").rglob("test_*.py"),
             *(REPOSITORY / "tests/engine").rglob("test_*.py")]  # fmt: skip
    known = {f"{number:02}" for number in CASES}
    return set(numbered_tests(files, r"test_e(\d\d)_")) - known
