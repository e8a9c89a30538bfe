"""The script that a user would write with Convex's Python client: one mutation."""

import json
import os
import sys

from convex.http_client import ConvexHttpClient

with open(sys.argv[1], encoding="utf-8") as file:
    call = json.load(file)
client = ConvexHttpClient(os.environ["CONVEX_SELF_HOSTED_URL"])
client.set_admin_auth(os.environ["CONVEX_SELF_HOSTED_ADMIN_KEY"])
client.mutation(call["path"], call["args"])
