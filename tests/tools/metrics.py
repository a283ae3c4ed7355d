"""Reads a Prometheus text from standard input with Prometheus' own parser for Python, and prints what is in it as JSON:
{name: {"type": …, "samples": [[sample name, {label: value}, number], …]}}. Fails where the text is not valid."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    if family.name in families:
        sys.exit(f"{family.name} occurs twice")
    families[family.name] = {"type": family.type, "help": family.documentation, "samples": samples}
json.dump(families, sys.stdout)
