// Verifies a sigstore bundle with an envelope, and prints who signed as JSON.
//
//     node verify.js key BUNDLE PUBLIC-KEY
//     node verify.js certificate BUNDLE TRUSTED-ROOT IDENTITY ISSUER
//
// The library reads an identity as a regular expression; here it is the whole of it.
"use strict";

const { createPublicKey } = require("crypto");
const { readFileSync } = require("fs");
const { bundleFromJSON } = require("@sigstore/bundle");
const { TrustedRoot } = require("@sigstore/protobuf-specs");
const { toSignedEntity, toTrustMaterial, Verifier } = require("@sigstore/verify");

const read = (path) => readFileSync(path, "utf8");
const exactly = (text) => `^${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;

function byKey(path) {
  const key = createPublicKey(read(path));
  const root = TrustedRoot.fromJSON({});
  const trust = toTrustMaterial(root, () => ({ publicKey: key, validFor: () => true }));
  return [new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 })];
}

function byCertificate(path, identity, issuer) {
  const root = TrustedRoot.fromJSON(JSON.parse(read(path)));
  const policy = { subjectAlternativeName: exactly(identity), extensions: { issuer } };
  return [new Verifier(toTrustMaterial(root)), policy];
}

const [kind, file, ...trusted] = process.argv.slice(2);
const [verifier, policy] = { key: byKey, certificate: byCertificate }[kind](...trusted);
const bundle = bundleFromJSON(JSON.parse(read(file)));
const signer = verifier.verify(toSignedEntity(bundle), policy);
const found = signer.identity || {};
console.log(
  JSON.stringify({
    identity: found.subjectAlternativeName || null,
    issuer: (found.extensions && found.extensions.issuer) || null,
    payload: Buffer.from(bundle.content.dsseEnvelope.payload).toString("utf8"),
  }),
);
