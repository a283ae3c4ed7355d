"""Exercises every method of the Hooks API with the package `taskcluster` as it is published.

Environment: TASKCLUSTER_ROOT_URL; ADMIN_TOKEN, READER_TOKEN, the access tokens of the clients `admin` (everything with the
hooks of group `ci`) and `reader` (reads them); WEBHOOK_URL and WEBHOOK_SECRET, a GitHub source of the bridge; QUEUE_URL, where
tasks are recorded. Ends with a traceback at the first answer that is not as Taskcluster Hooks would have it.
"""

import asyncio
import datetime
import hashlib
import hmac
import json
import os
import re
import time
import urllib.request
import uuid

import taskcluster
import taskcluster.aio
from taskcluster.exceptions import TaskclusterAuthFailure, TaskclusterRestFailure

ROOT_URL = os.environ["TASKCLUSTER_ROOT_URL"]
ADMIN = {"clientId": "admin", "accessToken": os.environ["ADMIN_TOKEN"]}
READER = {"clientId": "reader", "accessToken": os.environ["READER_TOKEN"]}
SLUGID = re.compile("^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$")
GROUP, HOOK = "ci", "client/python"
NAMED = {"hookGroupId": GROUP, "hookId": HOOK}


def hooks(credentials=None, **options):
    options = {"rootUrl": ROOT_URL, "maxRetries": 0, **options}
    if credentials:
        options["credentials"] = dict(credentials)
    return taskcluster.Hooks(options)


def refused(status, code, call, *arguments, **keywords):
    """Fails unless the call is refused like this; returns the message."""
    try:
        answer = call(*arguments, **keywords)
    except (TaskclusterRestFailure, TaskclusterAuthFailure) as error:
        body = error.body
        assert (error.status_code, body["code"]) == (status, code), (error.status_code, body)
        assert body["message"] and set(body["requestInfo"]) == {"method", "params", "payload", "time"}, body
        return body["message"]
    raise AssertionError(f"not refused: {answer}")


def eventually(probe):
    """Waits until the probe gives something."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("did not happen")


def definition(**more):
    return {
        "metadata": {"name": "py", "description": "of the Python client", "owner": "o@example.com", "emailOnError": False},
        "schedule": ["0 0 1 1 *"],
        "triggerSchema": {
            "type": "object",
            "properties": {"kind": {"enum": ["good", "none"]}, "taskId": {"type": "string"}},
            "required": ["kind"],
        },
        "task": {
            "$if": "payload.kind == 'good'",
            "then": {
                "taskQueueId": "proj-ci/linux",
                "created": {"$fromNow": ""},
                "deadline": {"$fromNow": "1 hour"},
                "payload": {"by": "${firedBy}"},
                "metadata": {"name": "n", "description": "d", "owner": "o@example.com", "source": "https://example.com/"},
            },
        },
        **more,
    }


def service(admin):
    assert hooks().ping()["alive"] is True
    assert hooks().lbheartbeat() == {} and hooks().heartbeat() == {}
    assert set(hooks().version()) == {"version", "commit", "source", "build"}
    assert admin.listHookGroups() == {"groups": []}
    refused(404, "ResourceNotFound", admin.listHooks, GROUP)
    refused(404, "ResourceNotFound", admin.hook, GROUP, HOOK)


def definitions(admin):
    created = admin.createHook(GROUP, HOOK, definition())
    assert (created["hookGroupId"], created["hookId"]) == (GROUP, HOOK), created
    assert created["bindings"] == [] and created["metadata"]["emailOnError"] is False, created
    assert admin.createHook(GROUP, HOOK, definition()) == created, "the same again is no conflict"
    refused(409, "RequestConflict", admin.createHook, GROUP, HOOK, definition(schedule=[]))
    assert admin.hook(GROUP, HOOK) == created
    assert admin.listHookGroups() == {"groups": [GROUP]}
    assert admin.listHooks(GROUP) == {"hooks": [created]}
    status = admin.getHookStatus(GROUP, HOOK)
    assert status["lastFire"] == {"result": "no-fire"}, status
    assert status["nextScheduledDate"].endswith("-01-01T00:00:00.000Z"), status
    refused(404, "ResourceNotFound", admin.listLastFires, GROUP, HOOK)

    changed = admin.updateHook(GROUP, HOOK, definition(schedule=[], hookGroupId=GROUP, hookId=HOOK))
    assert changed["schedule"] == [] and changed["bindings"] == [], changed
    refused(404, "ResourceNotFound", admin.updateHook, GROUP, "none", definition())
    refused(400, "InputError", admin.updateHook, GROUP, HOOK, definition(hookId="another"))
    message = refused(400, "InputValidationError", admin.updateHook, GROUP, HOOK, {"metadata": {}})
    assert "task" in message and "metadata" in message, message
    refused(400, "InvalidRequestArguments", admin.hook, GROUP, "no spaces")


def triggers(admin):
    answer = admin.triggerHook(GROUP, HOOK, {"kind": "good"})
    task = answer["taskId"]
    assert SLUGID.match(task) and answer["status"] == {"taskId": task}, answer
    queue = taskcluster.Queue({"rootUrl": os.environ["QUEUE_URL"]})
    assert queue.task(task)["payload"] == {"by": "triggerHook"}
    assert admin.triggerHook(GROUP, HOOK, {"kind": "none"}) == {}, "declined"
    refused(400, "InputError", admin.triggerHook, GROUP, HOOK, {"kind": "odd"})
    chosen = taskcluster.slugId()
    assert admin.triggerHook(GROUP, HOOK, {"kind": "good", "taskId": chosen})["taskId"] == chosen
    refused(404, "ResourceNotFound", admin.triggerHook, GROUP, "none", {})

    token = admin.getTriggerToken(GROUP, HOOK)["token"]
    assert admin.getTriggerToken(GROUP, HOOK) == {"token": token}
    by_token = hooks().triggerHookWithToken(GROUP, HOOK, token, {"kind": "good"})["taskId"]
    assert queue.task(by_token)["payload"] == {"by": "triggerHookWithToken"}
    other = admin.resetTriggerToken(GROUP, HOOK)["token"]
    assert other != token
    refused(401, "AuthenticationFailed", hooks().triggerHookWithToken, GROUP, HOOK, token, {"kind": "good"})
    assert hooks().triggerHookWithToken(GROUP, HOOK, other, {"kind": "good"})["taskId"]

    fires = admin.listLastFires(GROUP, HOOK)["lastFires"]
    assert [fire["firedBy"] for fire in fires] == ["triggerHookWithToken"] * 2 + ["triggerHook"] * 2, fires
    assert all(fire["result"] == "success" and fire["hookId"] == HOOK for fire in fires), fires
    pages = []
    admin.listLastFires(params=NAMED, paginationHandler=pages.append, paginationLimit=3)
    assert [len(page["lastFires"]) for page in pages] == [3, 1], pages
    assert sum((page["lastFires"] for page in pages), []) == fires
    refused(400, "InvalidRequestArguments", admin.listLastFires, params=NAMED, query={"limit": "x"})
    status = admin.getHookStatus(GROUP, HOOK)["lastFire"]
    assert (status["result"], status["taskId"]) == ("success", fires[0]["taskId"]), status


def access(admin):
    wrong = hooks({**ADMIN, "accessToken": "another token"})
    refused(401, "AuthenticationFailed", wrong.hook, GROUP, HOOK)
    refused(401, "AuthenticationFailed", hooks({"clientId": "nobody/known", "accessToken": "x"}).hook, GROUP, HOOK)
    reader = hooks(READER)
    assert reader.hook(GROUP, HOOK)["hookId"] == HOOK
    message = refused(403, "InsufficientScopes", reader.removeHook, GROUP, HOOK)
    assert f"hooks:modify-hook:{GROUP}/{HOOK}" in message and "Client ID reader" in message, message
    refused(403, "InsufficientScopes", hooks().hook, GROUP, HOOK)
    limited = hooks(ADMIN, authorizedScopes=["hooks:get:ci:*"])
    assert limited.hook(GROUP, HOOK)
    refused(403, "InsufficientScopes", limited.getTriggerToken, GROUP, HOOK)

    def temporary(start, end, scopes=("hooks:get:ci:*",), name=None):
        now = datetime.datetime.now(datetime.timezone.utc)
        return hooks(
            taskcluster.createTemporaryCredentials(
                ADMIN["clientId"], ADMIN["accessToken"], now + start, now + end, list(scopes), name=name
            )
        )

    hour = datetime.timedelta(hours=1)
    assert temporary(-hour, hour).hook(GROUP, HOOK)
    assert temporary(-hour, hour, name="admin/for-a-while").hook(GROUP, HOOK)
    refused(403, "InsufficientScopes", temporary(-hour, hour).getTriggerToken, GROUP, HOOK)
    message = refused(401, "AuthenticationFailed", temporary(-2 * hour, -hour).hook, GROUP, HOOK)
    assert "expired" in message, message
    refused(401, "AuthenticationFailed", temporary(hour, 2 * hour).hook, GROUP, HOOK)
    refused(401, "AuthenticationFailed", temporary(-hour, hour, ["queue:*"]).hook, GROUP, HOOK)

    with urllib.request.urlopen(admin.buildSignedUrl("hook", GROUP, HOOK)) as answer:
        assert json.load(answer)["hookId"] == HOOK
    with urllib.request.urlopen(temporary(-hour, hour).buildSignedUrl("hook", GROUP, HOOK)) as answer:
        assert json.load(answer)["hookId"] == HOOK


def pulse(admin):
    binding = {"exchange": "exchange/pulsehook/v1/webhook", "routingKeyPattern": "github.push.#"}
    bound = definition(bindings=[binding], triggerSchema={"type": "object"})
    bound["task"] = bound["task"]["then"]
    assert admin.createHook(GROUP, "bound", bound)["bindings"] == [binding]
    # A moment after the 200.
    push()
    fire = eventually(lambda: fires_of(admin, "bound"))[0]
    assert fire["firedBy"] == "pulseMessage", fire
    # Absent bindings keep the old ones.
    del bound["bindings"]
    assert admin.updateHook(GROUP, "bound", {**bound, "schedule": []})["bindings"] == [binding]
    push()
    eventually(lambda: len(fires_of(admin, "bound")) == 2)
    for exchange in ["exchange/taskcluster-queue/v1/task-created", "exchange/taskcluster-hooks/v1/hook-created"]:
        denied = {**bound, "bindings": [{"exchange": exchange, "routingKeyPattern": "#"}]}
        message = refused(400, "InputError", admin.createHook, GROUP, "denied", denied)
        assert "bindings[0].exchange" in message, message


def push():
    body = b'{"ref": "refs/heads/main"}'
    request = urllib.request.Request(os.environ["WEBHOOK_URL"], data=body, method="POST")
    signature = hmac.new(os.environ["WEBHOOK_SECRET"].encode(), body, hashlib.sha256).hexdigest()
    for name, value in {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": f"sha256={signature}",
    }.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["routed"] is True


def fires_of(admin, hook):
    try:
        return admin.listLastFires(GROUP, hook)["lastFires"]
    except TaskclusterRestFailure as error:
        assert error.status_code == 404, error
        return []


async def asynchronous():
    options = {"rootUrl": ROOT_URL, "credentials": dict(ADMIN), "maxRetries": 0}
    async with taskcluster.aio.createSession() as session:
        client = taskcluster.aio.Hooks(options, session=session)
        assert (await client.hook(GROUP, HOOK))["hookId"] == HOOK
        assert (await client.triggerHook(GROUP, HOOK, {"kind": "good"}))["taskId"]


def removal(admin):
    for hook in [HOOK, "bound"]:
        assert admin.removeHook(GROUP, hook) == {}
        assert admin.removeHook(GROUP, hook) == {}, "it is no error if there is none"
        refused(404, "ResourceNotFound", admin.hook, GROUP, hook)
    assert admin.listHookGroups() == {"groups": []}


if __name__ == "__main__":
    administrator = hooks(ADMIN)
    covered = {name for name in administrator.funcinfo}
    for part in [service, definitions, triggers, access, pulse]:
        part(administrator)
    asyncio.run(asynchronous())
    removal(administrator)
    with open(__file__) as script:
        text = script.read()
    missing = [name for name in covered if f".{name}(" not in text and f".{name}," not in text]
    assert not missing, f"not exercised: {missing}"
    print("all methods answered as they should")
