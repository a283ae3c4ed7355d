"""A configuration of Mozilla's tc-admin, as a repository of hooks has it; arguments are tc-admin's.

HOOKS names the hooks of the group `ci` that there shall be.
"""

import os

from tcadmin.appconfig import AppConfig
from tcadmin.main import main
from tcadmin.resources import Binding, Hook

appconfig = AppConfig()


@appconfig.generators.register
async def hooks(resources):
    resources.manage("Hook=ci/.*")
    for name in os.environ["HOOKS"].split():
        resources.add(
            Hook(
                hookGroupId="ci",
                hookId=name,
                name=name,
                description=f"The hook {name}.",
                owner="owner@example.com",
                emailOnError=True,
                schedule=("0 4 * * *",),
                bindings=(Binding("exchange/pulsehook/v1/webhook", "github.push.#"),),
                task={"provisionerId": "proj-ci", "workerType": "linux", "payload": {"push": {"$eval": "payload"}}},
                triggerSchema={"type": "object"},
            )
        )


main(appconfig)
