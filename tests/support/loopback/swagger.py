"""Azure's published specifications (Swagger 2) as strict JSON schemas: unknown properties are refused, and subtypes
follow their discriminator"""
import json
import re
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from jsonschema import Draft7Validator, FormatChecker  # type: ignore[import-untyped]  # Its stubs are not installed

KEPT = ("type", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems",
        "uniqueItems", "format", "exclusiveMinimum")
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", ValueError)
def is_time(value) -> bool: return not isinstance(value, str) or bool(datetime.fromisoformat(value))


@FORMATS.checks("duration")
def is_duration(value) -> bool:
    return (not isinstance(value, str)
            or bool(re.fullmatch(r"P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?([\d.]+S)?)?", value)))


@FORMATS.checks("uuid")
def is_uuid(value) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
                                                           value))


@FORMATS.checks("int32")
def is_int32(value) -> bool: return not isinstance(value, int) or -2 ** 31 <= value < 2 ** 31


@lru_cache
def read(path: Path) -> dict: return json.loads(path.read_text(encoding="utf-8-sig"))


@lru_cache
def subtypes(path: Path) -> dict[str, dict[str, str]]:
    "In one file: for each definition with a discriminator, the definition behind each of its values"
    known = read(path).get("definitions", {})
    found: dict[str, dict[str, str]] = {}
    for name, one in known.items():
        for base in ancestors(path, name):
            found.setdefault(base, {})[one.get("x-ms-discriminator-value", name)] = name
    return {base: kinds for base, kinds in found.items() if known.get(base, {}).get("discriminator")}


def ancestors(path: Path, name: str) -> list[str]:
    "Definitions of the same file that one is made of"
    bases = [part["$ref"].rsplit("/", 1)[1] for part in read(path)["definitions"].get(name, {}).get("allOf", ())
             if part.get("$ref", "").startswith("#")]
    return bases + [one for base in bases for one in ancestors(path, base)]


class Schemas:
    "Definitions, translated when they are first needed"
    def __init__(self): self.done, self.validators = {}, {}

    def validator(self, path: Path, schema: dict) -> Draft7Validator:
        "A validator of a schema that stands in a file"
        key = (path, json.dumps(schema, sort_keys=True))
        if key not in self.validators:
            self.validators[key] = Draft7Validator({**self.translate(path, schema), "definitions": self.done},
                                                   format_checker=FORMATS)
        return self.validators[key]

    def reference(self, path: Path, reference: str) -> dict:
        "A reference to a definition, translated if need be"
        file, _, name = reference.partition("#/definitions/")
        target = (path.parent / file).resolve() if file else path
        key = f"{target.parent.name}-{target.parent.parent.name}-{target.stem}-{name}".replace("/", "-")
        if key not in self.done:
            self.done[key] = {}
            self.done[key] |= self.definition(target, name)
        return {"$ref": f"#/definitions/{key}"}

    def definition(self, path: Path, name: str, exact: bool = False) -> dict:
        "A definition; one with a discriminator is any of its subtypes"
        said, kinds = read(path)["definitions"][name], subtypes(path).get(name)
        if not kinds or exact: return self.whole(path, name)
        by = said["discriminator"]
        own = {name: said["x-ms-discriminator-value"]} if "x-ms-discriminator-value" in said else {}
        cases = [{"if": {"properties": {by: {"const": value}}, "required": [by]},
                  "then": self.reference(path, f"#/definitions/{kind}")} for value, kind in kinds.items()]
        return {"type": "object", "required": [by], "properties": {by: {"enum": [*kinds, *own.values()]}},
                "allOf": cases}

    def whole(self, path: Path, name: str) -> dict:
        "A definition with all that it inherits"
        properties, required, open_ended, typed = self.gather(path, read(path)["definitions"][name])
        made = self.translate(path, {key: value for key, value in read(path)["definitions"][name].items()
                                     if key not in ("allOf", "properties", "required", "additionalProperties",
                                                    "discriminator")})
        if properties or typed == "object":
            made |= {"type": "object", "properties": properties, "required": sorted(required),
                     "additionalProperties": open_ended if open_ended is not None else not properties}
        return made

    def gather(self, path: Path, said: dict) -> tuple[dict[str, dict], set[str], bool | dict | None, str | None]:
        "Properties, what is required, what else is allowed, and the type"
        properties: dict[str, dict] = {}
        required: set[str] = set()
        open_ended: bool | dict | None = None
        typed = said.get("type")
        for part in said.get("allOf", ()):
            file, _, base = part["$ref"].partition("#/definitions/")
            target = (path.parent / file).resolve() if file else path
            more, needed, other, kind = self.gather(target, read(target)["definitions"][base])
            properties, required = properties | more, required | needed
            open_ended, typed = other if other is not None else open_ended, typed or kind
        for name, one in said.get("properties", {}).items(): properties[name] = self.translate(path, one)
        if "additionalProperties" in said:
            open_ended = (
                said["additionalProperties"]
                if isinstance(said["additionalProperties"], bool)
                else self.translate(path, said["additionalProperties"])
            )
        return properties, required | set(said.get("required", ())), open_ended, typed

    def translate(self, path: Path, said: dict) -> dict:
        "Any schema of a file"
        if "$ref" in said: made = self.reference(path, said["$ref"])
        else:
            made = {key: said[key] for key in KEPT if key in said}
            if said.get("type") == "file": return {}
            if "items" in said: made["items"] = self.translate(path, said["items"])
            if "properties" in said or "allOf" in said:
                properties, required, open_ended, _ = self.gather(path, said)
                made |= {"type": "object", "properties": properties, "required": sorted(required),
                         "additionalProperties": open_ended if open_ended is not None else False}
            elif isinstance(said.get("additionalProperties"), dict):
                made["additionalProperties"] = self.translate(path, said["additionalProperties"])
        return {"anyOf": [{"type": "null"}, made]} if said.get("x-nullable") else made
