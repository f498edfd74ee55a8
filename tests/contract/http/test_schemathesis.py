"""What the OpenAPI document promises, asked of the app by a generator of requests, good and bad.

Left out is only what no schema can say: a window whose ends are crossed, a time that its offset takes out of
the years 1 to 9999, and offsets beyond what hosts in JavaScript can say, which are right.
"""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

from jobstore import load
from jobstore.http.routes import DOCUMENT, HEALTH, ROUTES
from jobstore.language import examples
from jobstore.wsgi import create_app
from tests.reliability.scale import figure

EXAMPLES = figure(30, 200)
"""Good requests for each route, and as many bad ones. Four routes and more have most of the parameters."""
UNSAYABLE = (
    b"after must not be later than before",
    b"must be a valid time in the years 1 to 9999",
    b"timezone must be an IANA name",
    b"buckets; at most 400 are allowed",
)
PLAIN = {"Accept-Encoding": "identity"}
WITH_TOKEN = {"Authorization": "Bearer s3cret", **PLAIN}
PATHS = [*(route.template for route in ROUTES), HEALTH, DOCUMENT]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "jobs.db"
    load(path, {"jobs": examples.JOB_PAGE["data"], "executions": examples.EXECUTION_PAGE["data"]})
    return schemathesis.openapi.from_wsgi(DOCUMENT, create_app(path, tokens={"s3cret": {"read:jobs"}}))


def is_without_good_token(case: Any) -> bool:
    """Whether what is wrong with a request is its token, which a good one in its place would put right."""
    header = case.meta.components.get(ParameterLocation.HEADER) if case.meta else None
    return header is not None and header.mode.is_negative


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", PATHS)
def test_no_request_finds_a_difference_between_the_document_and_the_app(api, path, mode):
    operation = api[path]["GET"]
    if mode.is_negative and not operation.query and not operation.path_parameters:
        return

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(case):
        headers = PLAIN if is_without_good_token(case) else WITH_TOKEN
        response = case.call(headers=headers)
        excluded: list[Any] = []
        if any(words in response.content for words in UNSAYABLE):
            excluded.append(schemathesis.checks.positive_data_acceptance)
        if isinstance(offset := (case.query or {}).get("offset"), int) and offset >= 2**53:
            excluded.append(schemathesis.checks.negative_data_rejection)
        case.validate_response(response, excluded_checks=excluded, headers=headers)

    check()
