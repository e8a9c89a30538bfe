"""The script that a user would write to sum the tokens of a transcript: each API message once, with its last figures."""

import json
import sys

usage = {}
with open(sys.argv[1], "rb") as transcript:
    for line in transcript:
        record = json.loads(line)
        if record.get("type") == "assistant":
            usage[record["message"]["id"]] = record["message"]["usage"]
print(sum(figures.get(kind, 0) for figures in usage.values() for kind in ("input_tokens", "output_tokens", "cache_read_input_tokens")))
