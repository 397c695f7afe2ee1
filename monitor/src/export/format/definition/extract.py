#!/usr/bin/env python3
"""Makes the files beside it anew: what OCSF, ECS and OpenTelemetry define, names and types only, from packages that
carry their published definitions. The tests of the formats check against them.

usage: extract.py OCSF_JSON ECS_FLAT_JSON SEMCONV_FOLDER
  OCSF_JSON       ocsf_json_schema/ocsf/1.8.0.json of the PyPI package ocsf-json-schema 1.2.0
  ECS_FLAT_JSON   EcsFlat of the npm package @elastic/ecs 9.4.0, as JSON
  SEMCONV_FOLDER  opentelemetry/semconv of the PyPI package opentelemetry-semantic-conventions 0.66b2
"""

import json
import pathlib
import re
import sys

CLASSES = [
    "file_activity", "kernel_extension_activity", "kernel_activity", "memory_activity", "process_activity",
    "event_log_actvity", "detection_finding", "network_activity", "dns_activity",
]
ECS_SETS = (
    "agent container destination dns ecs error event file group host log network orchestrator process rule source "
    "threat user"
).split()
ECS_NOT = re.compile(r"^(process\.(entry|session|group_leader|previous|parent\.group|attested|responsible|macho|pe|elf|entry_meta|code|hash|env)"
                     r"|process\.parent\.(macho|pe|elf|hash|code)|threat\.(enrichments|indicator|feed|group|software)"
                     r"|file\.(elf|macho|pe|x509|hash|code)|user\.(target|changes|effective|risk)|host\.(risk|geo|cpu|disk)"
                     r"|(source|destination)\.(geo|as|user)|dns\.header|log\.syslog)")


def attribute(found):
    kind = found.get("object_type") if found["type"] == "object_t" else found["type"].removesuffix("_t")
    short = {"type": kind, "is": found["requirement"]}
    if found["type"] == "object_t":
        short["object"] = True
    if found.get("is_array"):
        short["array"] = True
    if found.get("profiles"):
        short["profiles"] = found["profiles"]
    if found.get("enum"):
        short["enum"] = sorted(found["enum"], key=lambda value: (len(value), value))
    return short


def shape(found):
    attributes = {name: attribute(value) for name, value in sorted(found["attributes"].items())}
    return {"constraints": found.get("constraints") or {}, "attributes": attributes}


def ocsf(path):
    schema = json.load(open(path))
    classes = {str(schema["classes"][name]["uid"]): shape(schema["classes"][name]) for name in CLASSES}
    # Only objects that records have: everything below would be most of the schema.
    names = """actor analytic api attack container device dns_answer dns_query evidences file finding_info group image
        kernel kernel_driver metadata network_connection_info network_endpoint network_traffic object os process product
        session sub_technique tactic technique user""".split()
    objects = {name: shape(schema["objects"][name]) for name in names}
    return {"source": "PyPI ocsf-json-schema 1.2.0", "version": schema["version"], "classes": classes, "objects": objects}


def ecs(path):
    fields = {}
    for name, found in sorted(json.load(open(path)).items()):
        if not (name.split(".")[0] in ECS_SETS or "." not in name) or ECS_NOT.match(name):
            continue
        short = {"type": found["type"]}
        if "array" in found.get("normalize", []):
            short["array"] = True
        if found.get("allowed_values"):
            short["values"] = [value["name"] for value in found["allowed_values"]]
        fields[name] = short
    return {"source": "npm @elastic/ecs 9.4.0", "version": "9.4.0", "fields": fields}


def semconv(folder):
    names = set()
    for file in sorted(pathlib.Path(folder).rglob("*_attributes.py")):
        names |= set(re.findall(r'^[A-Z0-9_]+: Final = "([a-z0-9_.]+)"', file.read_text(), re.M))
    wanted = ("container.", "dns.", "error.", "file.", "host.", "k8s.", "network.", "process.", "security_rule.", "service.", "thread.")
    return {"source": "PyPI opentelemetry-semantic-conventions 0.66b2", "attributes": sorted(name for name in names if name.startswith(wanted))}


def write(name, found):
    text = json.dumps(found, separators=(",", ":"))
    # One attribute a line, so that a change can be read.
    text = re.sub(r'(?<=[{,])("[^"]+":\{"(?:type|constraints))', r"\n\1", text)
    (pathlib.Path(__file__).parent / name).write_text(text + "\n")


def main(ocsf_json, ecs_json, semconv_folder):
    write("ocsf.json", ocsf(ocsf_json))
    write("ecs.json", ecs(ecs_json))
    write("otel.json", semconv(semconv_folder))


main(*sys.argv[1:])
