"""A plugin that writes down how it is called, as a line of JSON in the file that RECORD names.

ADD answers with the configuration's `answer`, or hands on the prevResult; the verb that is the
configuration's `fail` fails.
"""

from __future__ import annotations

import json
import os
import sys

config = json.load(sys.stdin)
cni = {name: value for name, value in os.environ.items() if name.startswith("CNI_")}
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps({"environ": cni, "stdin": config}) + "\n")

verb = cni["CNI_COMMAND"]
if config.get("fail") == verb:
    print(json.dumps({"code": 11, "msg": "not today", "details": "but tomorrow"}))
    sys.exit(1)
if verb == "ADD":
    print(json.dumps(config.get("answer") or config["prevResult"]))
