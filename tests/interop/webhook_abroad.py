"""Our webhooks by the official library of Standard Webhooks.

    webhook_abroad.py

Reads {"headers", "body", "secrets", "others"} as JSON. Each of the secrets verifies the request, and none of the others does,
nor any of them a changed body. A consumers/webhook-sender test calls it.
"""

import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def verifies(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


request = json.load(sys.stdin)
headers, body = request["headers"], request["body"]
assert request["secrets"], "no secret to verify by"
for secret in request["secrets"]:
    assert verifies(secret, body, headers), "a secret does not verify the request"
    assert not verifies(secret, body + " ", headers), "a changed body is verified"
    for name in ["webhook-id", "webhook-timestamp"]:
        changed = headers | {name: headers[name] + "1"}
        assert not verifies(secret, body, changed), f"a changed {name} is verified"
for secret in request["others"]:
    assert not verifies(secret, body, headers), "another secret verifies the request"
print(json.dumps(Webhook(request["secrets"][0]).verify(body, headers)))
