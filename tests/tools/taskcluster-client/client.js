// Exercises every method of the Hooks API with npm's `taskcluster-client` as it is published.
// Environment: TASKCLUSTER_ROOT_URL, and ADMIN_TOKEN, the access token of the client `admin`, which may do everything with the
// hooks of group `ci`. Ends with an error at the first answer that is not as Taskcluster Hooks would have it.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import taskcluster from 'taskcluster-client';

const rootUrl = process.env.TASKCLUSTER_ROOT_URL;
const admin = { clientId: 'admin', accessToken: process.env.ADMIN_TOKEN };

const hooks = (credentials, more = {}) => new taskcluster.Hooks({ rootUrl, credentials, retries: 0, ...more });

const refused = async (status, code, call) => {
  await assert.rejects(call, error => {
    assert.deepEqual([error.statusCode, error.code], [status, code], String(error));
    return true;
  });
};

const definition = {
  metadata: { name: 'js', description: 'of the JavaScript client', owner: 'o@example.com', emailOnError: false },
  triggerSchema: { type: 'object', properties: { kind: { type: 'string' } }, additionalProperties: false },
  schedule: [],
  task: {
    taskQueueId: 'proj-ci/linux',
    created: { $fromNow: '' },
    deadline: { $fromNow: '1 hour' },
    payload: { kind: '${payload.kind}', by: '${firedBy}' },
    metadata: { name: 'n', description: 'd', owner: 'o@example.com', source: 'https://example.com/' },
  },
};

const client = hooks(admin);
const name = ['ci', 'client/javascript'];
assert.equal((await client.ping()).alive, true);
assert.deepEqual(await client.lbheartbeat(), {});
assert.deepEqual(await client.heartbeat(), {});
assert.ok('version' in await client.version());
const created = await client.createHook(...name, definition);
assert.deepEqual(await client.hook(...name), created);
assert.ok((await client.listHookGroups()).groups.includes('ci'));
assert.ok((await client.listHooks('ci')).hooks.some(hook => hook.hookId === name[1]));
assert.equal((await client.getHookStatus(...name)).lastFire.result, 'no-fire');
assert.deepEqual((await client.updateHook(...name, { ...definition, schedule: ['@yearly'] })).schedule, ['@yearly']);

const { taskId } = await client.triggerHook(...name, { kind: 'by client' });
assert.match(taskId, /^[A-Za-z0-9_-]{22}$/);
await refused(400, 'InputError', () => client.triggerHook(...name, { odd: 1 }));
const { token } = await client.getTriggerToken(...name);
assert.ok((await hooks().triggerHookWithToken(...name, token, { kind: 'by token' })).taskId);
assert.notEqual((await client.resetTriggerToken(...name)).token, token);
await refused(401, 'AuthenticationFailed', () => hooks().triggerHookWithToken(...name, token, {}));
const first = await client.listLastFires(...name, { limit: 1 });
const second = await client.listLastFires(...name, { limit: 1, continuationToken: first.continuationToken });
assert.deepEqual([...first.lastFires, ...second.lastFires].map(fire => fire.firedBy), ['triggerHookWithToken', 'triggerHook']);
assert.equal(second.continuationToken, undefined);
assert.equal(second.lastFires[0].taskId, taskId);

await refused(401, 'AuthenticationFailed', () => hooks({ ...admin, accessToken: 'wrong' }).hook(...name));
await refused(403, 'InsufficientScopes', () => hooks().hook(...name));
await refused(403, 'InsufficientScopes', () => hooks(admin, { authorizedScopes: [] }).hook(...name));
const hour = 3600 * 1000;
const temporary = (from, to) => taskcluster.createTemporaryCredentials({
  clientId: 'admin/named', start: new Date(Date.now() + from), expiry: new Date(Date.now() + to), scopes: ['hooks:get:ci:*'],
  credentials: admin,
});
assert.deepEqual((await hooks(temporary(-hour, hour)).hook(...name)).schedule, ['@yearly']);
await refused(401, 'AuthenticationFailed', () => hooks(temporary(-2 * hour, -hour)).hook(...name));
const signed = await fetch(client.buildSignedUrl(client.hook, ...name));
assert.equal((await signed.json()).hookId, name[1]);

assert.deepEqual(await client.removeHook(...name), {});
await refused(404, 'ResourceNotFound', () => client.hook(...name));

const script = await readFile(new URL(import.meta.url), 'utf8');
const methods = Object.entries(taskcluster.Hooks.prototype).filter(([, method]) => method.entryReference);
assert.ok(methods.length > 10);
assert.deepEqual(methods.map(([method]) => method).filter(method => !script.includes(`.${method}(`)), [], 'not exercised');
console.log('all methods answered as they should');
