#!/usr/bin/env python3
"""Writes the vectors of Wycheproof's aes_gcm_test.json that SRTP can meet, one per line."""

import json
import sys

groups = json.load(open(sys.argv[1]))["testGroups"]
for group in groups:
    if (group["ivSize"], group["tagSize"]) != (96, 128) or group["keySize"] == 192:
        continue
    for test in group["tests"]:
        fields = [test[name] or "-" for name in ("key", "iv", "aad", "msg", "ct", "tag")]
        print(test["tcId"], test["result"], *fields)
