"""Lines of events, each checked with the schema in the package."""

from __future__ import annotations

import functools
import json
from typing import Any

from trioflow import Scheduler
from trioflow.abc import Instrument
from trioflow.view.events import _format

SCHEMA = json.loads(_format.SCHEMA_FILE.read_text(encoding="utf-8"))


@functools.cache
def validator() -> Any:
    import jsonschema  # not in each process that collects the tests

    return jsonschema.Draft202012Validator(SCHEMA)


def checked(text: str) -> list[dict[str, Any]]:
    """Return the events of whole lines, each checked with the schema, which must know all of its fields."""
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    structures = (part["properties"] for part in SCHEMA["$defs"].values() if "properties" in part)
    fields = {properties["event"]["enum"][0]: properties for properties in structures}
    for event in found:
        validator().validate(event)
        assert event.keys() <= fields[event["event"]].keys()
    return found


async def run_with(scheduler: Scheduler, *instruments: Instrument) -> None:
    await scheduler.co_run(instruments=instruments)
