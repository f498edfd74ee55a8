"""Periodic huey tasks as schedules of a store: a cron expression if both have the same fire times, else external."""

from __future__ import annotations

from typing import Any

from jobstore.integrations.cronfields import field_text, keeps_clear, weekday_text
from jobstore.language.cron import check_schedule, fires_at_fixed_times
from jobstore.language.errors import InvalidSchedule
from jobstore.language.zones import same_zone


def cron_of(task_class: Any, zone: str, store_zone: str, year: int) -> tuple[str | None, str | None]:
    """Return the cron expression of a periodic task and None, or None and the reason why there is none.

    huey calls a function every minute to decide whether a task is due. The function made by huey's own `crontab`
    contains the matching values; it joins day and weekday by AND.

    Args:
        task_class: the class of a periodic task.
        zone: the time zone of the wall time that huey passes to the function.
        store_zone: the time zone in which the store reads cron expressions.
        year: the year from which on to consider clock changes.
    """
    fields = _crontab_fields(task_class)
    if fields is None:
        return None, "it calls a function of its own every minute"
    if not same_zone(zone, store_zone):
        return None, f"it runs in the time zone {zone}, the store's is {store_zone}"
    months, days, weekdays, hours, minutes = fields
    day, weekday = field_text(days, 1, 31), weekday_text({value % 7 for value in weekdays})
    if not day.startswith("*") and weekday != "*":
        return None, "it combines day and weekday with AND"
    text = f"{field_text(minutes, 0, 59)} {field_text(hours, 0, 23)} {day} {field_text(months, 1, 12)} {weekday}"
    try:
        expression = check_schedule(text)
    except InvalidSchedule as error:
        return None, str(error)
    if fires_at_fixed_times(expression) and not keeps_clear(zone, year, minutes, hours):
        return None, f"near a clock change in {zone} its times differ from cron's"
    return expression, None


def _crontab_fields(task_class: Any) -> list[list[int]] | None:
    """Return the values that match in a `huey.crontab`: months, days, weekdays, hours, minutes."""
    validate = enclosed(task_class.validate_datetime, "validate_datetime")
    if getattr(validate, "__qualname__", "") != "crontab.<locals>.validate_date":
        return None
    found: list[list[int]] | None = enclosed(validate, "cron_settings")
    return found


def enclosed(function: Any, name: str) -> Any:
    """Return the value of a variable in a function's closure; None if there is none."""
    code = getattr(function, "__code__", None)
    if code is None or name not in code.co_freevars:
        return None
    return function.__closure__[code.co_freevars.index(name)].cell_contents
