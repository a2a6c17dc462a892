"""Lines of events, each checked with the schema in the package."""

import functools
import inspect
import json
from pathlib import Path
from typing import Any, Union
import msgspec
from trioflow import Scheduler
from trioflow.abc import Instrument
from trioflow.view.events import _format

SCHEMA = json.loads(
    Path(_format.__file__).with_name("events.schema.json").read_text(encoding="utf-8")
)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line, of which the file in the package is a copy."""
    any_event: Any = Union[tuple(_format.Event.__subclasses__())]  # noqa: UP007 - there is no other form for a tuple
    (event,), components = msgspec.json.schema_components(
        [any_event], ref_template="#/$defs/{name}"
    )
    for component in components.values():
        if (
            "description" in component
        ):  # msgspec 0.23 removes the indentation of a docstring, and earlier ones do not
            component["description"] = inspect.cleandoc(component["description"])
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of trioflow.Events",
    }
    return {**header, **event, "$defs": components}


@functools.cache
def validator() -> Any:
    import jsonschema  # not in each process that collects the tests

    return jsonschema.Draft202012Validator(SCHEMA)


def checked(text: str) -> list[dict[str, Any]]:
    """Return the events of whole lines, each checked with the schema, which must know all of its fields."""
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    structures = (
        part["properties"] for part in SCHEMA["$defs"].values() if "properties" in part
    )
    fields = {properties["event"]["enum"][0]: properties for properties in structures}
    for event in found:
        validator().validate(event)
        assert event.keys() <= fields[event["event"]].keys()
    return found


async def run_with(scheduler: Scheduler, *instruments: Instrument) -> None:
    await scheduler.co_run(instruments=instruments)
