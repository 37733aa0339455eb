"""What trips a naive client, by number, and which tests of this folder hold each case."""

from __future__ import annotations

from pathlib import Path

from tests.numbered import numbered_tests

CASES = {
    # Authorisation
    1: "a scope covers one repository; a mount asks for two, ours first",
    2: "the challenge is missing on a content URL but there on /v2/",
    3: "several challenges, in one header or many, with quoted commas and unknown schemes",
    4: "insufficient_scope, invalid_token and wrong credentials are three different answers",
    5: "token or access_token; expires_in missing or tiny; issued_at by a wrong clock",
    6: "anonymous pulls need a token; wrong credentials are reported even for public images",
    7: "identity tokens are exchanged by POST, by GET where that is unknown, and may rotate",
    8: "a token expires in the middle of an upload",
    9: "many threads that meet a 401 make one token request",
    10: "the scope that deletes has several names",
    11: "giving an upload session up may be forbidden",
    12: "credentials stay with scheme, host and port",
    13: "pre-signed URLs fail when Authorization comes along; redirects keep method and body",
    14: "a public registry leads to a private address; redirects never end",
    15: "Basic realms are no URLs; the user is AWS, the password is 4 KB",
    16: "auth.json: forms of keys, namespaces, helpers, odd base64, atomic private files",
    17: "Docker Hub has one name for logins, one for its API and one for tokens",
    # References
    18: "library/ belongs to single names on docker.io, which has three names",
    19: "what makes the first component a host; upper case; names that look like ids",
    20: "port or tag; IPv6; punycode; a trailing dot; hosts in any case",
    21: "tag and digest together; digests are checked before they are used anywhere",
    22: "the grammar of tags and names, and their lengths",
    23: "http and https: who may use which, and no hanging in between",
    24: "certs.d: exact directory names, CAs, pairs, and halves of pairs",
    # Manifests
    25: "exact bytes are kept, and their digest is checked against every claim",
    26: "HEAD of a manifest may tell nothing, or be refused",
    27: "Accept names all types in one line; Content-Type may be wrong",
    28: "manifests without mediaType; manifests that are two things at once",
    29: "duplicate keys, NaN, huge numbers, a byte order mark",
    30: "schema 1: the digest is of the payload, layers come newest first",
    31: "manifests have a limit both ways; indexes may be long",
    32: "nested, sparse and odd entries of indexes",
    33: "blobs before manifests, children before parents, subjects may be absent",
    34: "which platform is chosen",
    35: "unknown types and configs that are no configs are not interpreted unasked",
    36: "old registries refuse OCI and zstd; nothing is converted without consent",
    37: "not found has many faces, and only some of them are not found",
    38: "immutable tags: four dialects of refusal, and equal is success",
    39: "a PUT of a manifest: statuses, echoes, and reading what was just written",
    # Downloads
    40: "digest and length are checked; nothing is content-decoded",
    41: "Range: ignored, shifted, refused, expired behind a redirect",
    42: "lengths that are missing or wrong, and sizes that are unknown",
    43: "empty blobs and bodies have a length",
    44: "the same blob several times in one image, under several types",
    45: "media types that say something else than the bytes",
    46: "foreign layers: fetched without credentials, verified, not pushed",
    47: "several gzip members, padding, skippable frames, bombs",
    48: "a slow consumer does not lose the source's connection",
    # Uploads
    49: "Location in every form, kept to the byte",
    50: "what POST and mounts are answered with",
    51: "a mount is checked, and asks for both scopes at once",
    52: "chunks: statuses, ranges, minimum sizes, lost chunks, dead sessions",
    53: "the closing PUT: lost answers and wrong digests",
    54: "proxies limit bodies; nobody waits for 100 Continue",
    55: "every request has a length",
    56: "parallel uploads of one blob are one upload",
    57: "repositories that must exist first",
    # Lists
    58: "lists of tags: null, empty, odd, repeated, missing",
    59: "pages: every form of Link, loops, other hosts, no Link at all",
    60: "referrers: every way of not having the API, filters, pages, fallback tags",
    61: "cosign's tags beside referrers, on instances too, in circles",
    62: "deletes: by tag refused, by digest takes all tags, many statuses",
    # Limits and the network
    63: "rate limits: seconds, dates, no header, remaining counts, one gate per host",
    64: "errors: JSON, HTML, nothing; secrets do not get into messages",
    65: "statuses of proxies, and connections that went stale",
    66: "warnings of a registry are shown once",
    67: "proxies, their exceptions, and addresses that do not answer",
    68: "TLS: versions, names, client certificates, private CAs",
    69: "Ctrl-C gives sessions up, removes temporary files, keeps the journal",
    70: "a wrong clock",
    # Local formats and the rest
    71: "tar input: names, links, duplicates, compression, old and new docker archives",
    72: "OCI layouts: names, missing files, writers at once, shared blobs, nesting",
    73: "dir: only what is one is replaced; names come from checked digests",
    74: "archives on standard input and output",
    75: "a full disk is named with the way out",
    76: "signed images are not changed silently",
    77: "digests are preserved where they are promised",
    78: "what is reported is what is stored",
    79: "mirrors: credentials, failures, stale tags, blocked registries",
    80: "headers and names that are not ASCII; absent version headers",
}


def cases_with_tests() -> dict[int, list[str]]:
    """The ids of this folder's tests by the number in their name."""
    found: dict[int, list[str]] = {number: [] for number in CASES}
    files = Path(__file__).parent.glob("test_*.py")
    for number, tests in numbered_tests(files, r"test_(\d\d)_").items():
        found.setdefault(int(number), []).extend(tests)
    return found
