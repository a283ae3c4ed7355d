// What the reference implementation of JSON-e renders from tests/cases/json-e/corpus.yml.
//
//     npm install --prefix /tmp/oracle json-e js-yaml
//     NODE_PATH=/tmp/oracle/node_modules node tests/tools/json-e-oracle.mjs            # compares
//     NODE_PATH=/tmp/oracle/node_modules node tests/tools/json-e-oracle.mjs --write    # writes the expectations anew
//
// Each result is {"value": …} or {"error": true}. A unit test compares pulsehook with the file.

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const jsone = require('json-e');
const yaml = require('js-yaml');

const NOW = '2026-11-22T10:05:00.000Z';
const TASK_ID = 'DryRunDrRySRunDryRun0Q';
const folder = new URL('../cases/json-e/', import.meta.url);

// The same slugids as src/template/slugid.rs makes.
function slugid(label) {
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(Buffer.byteLength(TASK_ID)));
  const digest = createHash('sha256')
    .update('pulsehook slugid v1\0').update(length).update(TASK_ID).update(label).digest().subarray(0, 16);
  digest[0] &= 0x7f;
  digest[6] = (digest[6] & 0x0f) | 0x40;
  digest[8] = (digest[8] & 0x3f) | 0x80;
  return digest.toString('base64url');
}

const corpus = yaml.load(readFileSync(new URL('corpus.yml', folder), 'utf8'), { schema: yaml.JSON_SCHEMA });
const results = corpus.map(({ name, template, contexts }) => ({
  name,
  results: contexts.map(context => {
    try {
      return { value: jsone(template, { now: NOW, as_slugid: slugid, ...context }) ?? null };
    } catch {
      return { error: true };
    }
  }),
}));

const text = JSON.stringify(results, null, 1) + '\n';
const path = new URL('corpus.expected.json', folder);
if (process.argv.includes('--write')) {
  writeFileSync(path, text);
} else if (readFileSync(path, 'utf8') !== text) {
  console.error('corpus.expected.json is not what the reference renders; look at the difference after --write');
  process.exit(1);
}
